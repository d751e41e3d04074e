/** DNS messages (RFC 1035), as far as a responder that answers single questions needs them. */

export const queryType = { A: 1, PTR: 12, AAAA: 28, OPT: 41, SVCB: 64, HTTPS: 65 } as const;

export const responseCode = {
  noError: 0,
  formatError: 1,
  serverFailure: 2,
  nameError: 3,
  notImplemented: 4,
  refused: 5,
} as const;

/** One question, and what of the header the answer must repeat. */
export interface Query {
  readonly id: number;
  readonly recursionDesired: boolean;
  /** Lower-case, dots between labels, no trailing dot; the root is the empty string. */
  readonly name: string;
  readonly type: number;
  /** The question section as it came: an answer repeats it byte by byte (0x20 case included). */
  readonly question: Buffer;
  /** Whether the query carried an EDNS option record; the answer must carry one then (RFC 6891). */
  readonly edns: boolean;
}

/** A message that is no query we answer; `code` is what it gets, undefined: silence. */
export interface Malformed {
  readonly id: number;
  readonly code: number | undefined;
}

const headerLength = 12;
const classInternet = 1;

/** Parses one query. Bounded by the message: no compression pointers are followed in a question. */
export function parseQuery(message: Buffer): Query | Malformed {
  if (message.length < headerLength) return { id: 0, code: undefined };
  const id = message.readUInt16BE(0);
  const flags = message.readUInt16BE(2);
  // A response sent to a responder is never answered: two of them would talk for ever.
  if (flags & 0x8000) return { id, code: undefined };
  const malformed = { id, code: responseCode.formatError };
  if ((flags >> 11) & 0xf) return { id, code: responseCode.notImplemented };
  const [questions, answers, authorities, additionals] = [4, 6, 8, 10].map((at) =>
    message.readUInt16BE(at),
  );
  if (questions !== 1 || answers !== 0 || authorities !== 0) return malformed;

  const labels: string[] = [];
  let at = headerLength;
  for (let length = message[at]; length !== 0; length = message[at]) {
    if (length === undefined || length > 63 || at + 1 + length >= message.length) return malformed;
    const label = message.toString("latin1", at + 1, at + 1 + length);
    // A dot or a NUL inside a label would read as another name once it is text.
    if (!/^[\x21-\x2d\x2f-\x7e]+$/.test(label)) return malformed;
    labels.push(label.toLowerCase());
    at += 1 + length;
    if (at - headerLength > 254) return malformed;
  }
  const end = at + 5;
  if (end > message.length) return malformed;
  if (message.readUInt16BE(at + 3) !== classInternet) return { id, code: responseCode.refused };
  return {
    id,
    recursionDesired: (flags & 0x0100) !== 0,
    name: labels.join("."),
    type: message.readUInt16BE(at + 1),
    question: message.subarray(headerLength, end),
    edns: additionals !== 0,
  };
}

/** One resource record of an answer, owned by the question's name. */
export interface Answer {
  readonly type: number;
  /** Seconds. */
  readonly ttl: number;
  readonly data: Buffer;
}

/** Builds the answer to `query`. */
export function encodeResponse(query: Query, code: number, answers: readonly Answer[]): Buffer {
  const header = Buffer.alloc(headerLength);
  header.writeUInt16BE(query.id, 0);
  // QR, AA, RD as asked, RA: without RA stub resolvers try the next server.
  header.writeUInt16BE(0x8480 | (query.recursionDesired ? 0x0100 : 0) | code, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(answers.length, 6);
  header.writeUInt16BE(query.edns ? 1 : 0, 10);
  const records = answers.map(({ type, ttl, data }) => {
    const head = Buffer.alloc(12);
    head.writeUInt16BE(0xc000 | headerLength, 0); // pointer to the question's name
    head.writeUInt16BE(type, 2);
    head.writeUInt16BE(classInternet, 4);
    head.writeUInt32BE(ttl, 6);
    head.writeUInt16BE(data.length, 10);
    return Buffer.concat([head, data]);
  });
  const option = Buffer.from([0, 0, queryType.OPT, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]); // 1232 bytes
  return Buffer.concat([header, query.question, ...records, ...(query.edns ? [option] : [])]);
}

/** The answer to a message that could not be read. */
export function encodeFailure(id: number, code: number): Buffer {
  const header = Buffer.alloc(headerLength);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(0x8000 | code, 2);
  return header;
}

/** A name in wire form, for PTR data. */
export function encodeName(name: string): Buffer {
  const labels = name.split(".").map((label) => Buffer.from(`\0${label}`, "latin1"));
  for (const label of labels) label[0] = label.length - 1;
  return Buffer.concat([...labels, Buffer.from([0])]);
}
