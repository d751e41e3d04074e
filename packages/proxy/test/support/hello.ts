import { once } from "node:events";
import net from "node:net";
import tls from "node:tls";

/** The first flight of a real client: what OpenSSL says with these options. */
export async function realHello(options: tls.ConnectionOptions): Promise<Buffer> {
  const server = net.createServer();
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as net.AddressInfo;
  const client = tls.connect({ port, host: "127.0.0.1", ...options });
  client.on("error", () => undefined);
  const [peer] = (await once(server, "connection")) as [net.Socket];
  const [bytes] = (await once(peer, "data")) as [Buffer];
  client.destroy();
  peer.destroy();
  server.close();
  return bytes;
}

/** The hello with an extension more, its lengths put right. */
export function withExtension(hello: Buffer, type: number, data: Buffer): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt16BE(type, 0);
  header.writeUInt16BE(data.length, 2);
  const result = Buffer.concat([hello, header, data]);
  const added = header.length + data.length;
  result.writeUInt16BE(hello.readUInt16BE(3) + added, 3);
  result.writeUIntBE(hello.readUIntBE(6, 3) + added, 6, 3);
  let at = 5 + 4 + 2 + 32;
  at += 1 + hello.readUInt8(at);
  at += 2 + hello.readUInt16BE(at);
  at += 1 + hello.readUInt8(at);
  result.writeUInt16BE(hello.readUInt16BE(at) + added, at);
  return result;
}

/** The server_name extension's body with these names. */
export function serverNames(...names: string[]): Buffer {
  const entries = names.map((name) => {
    const bytes = Buffer.from(name, "latin1");
    return Buffer.concat([Buffer.from([0, bytes.length >> 8, bytes.length & 255]), bytes]);
  });
  const list = Buffer.concat(entries);
  return Buffer.concat([Buffer.from([list.length >> 8, list.length & 255]), list]);
}

/** One handshake message cut into records of at most `size` bytes. */
export function inRecords(hello: Buffer, size: number): Buffer {
  const body = hello.subarray(5);
  const records: Buffer[] = [];
  for (let at = 0; at < body.length; at += size) {
    const part = body.subarray(at, at + size);
    records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part);
  }
  return Buffer.concat(records);
}
