import { queryType } from "../../src/dns/message.ts";

/** A DNS query as a stub resolver writes it. */
export function dnsQuery(name: string, type: number = queryType.A, id = 7): Buffer {
  const labels = name.split(".").map((label) => Buffer.from([label.length, ...Buffer.from(label)]));
  const header = Buffer.from([0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  return Buffer.concat([header, ...labels, Buffer.from([0, type >> 8, type & 255, 0, 1])]);
}
