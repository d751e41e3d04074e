import { GateError } from "../errors.ts";
import type { Recorder } from "../event.ts";
import { type Host, parseHost } from "../net/host.ts";
import { type IpAddress, formatIp } from "../net/ip.ts";
import type { AllowList } from "../policy/allow-list.ts";
import {
  type Answer,
  type Query,
  encodeFailure,
  encodeName,
  encodeResponse,
  parseQuery,
  queryType,
  responseCode,
} from "./message.ts";
import type { SyntheticAddresses } from "./synthetic.ts";

/** Seconds. The mapping lives as long as the gate, so any value is true; short ones keep caches small. */
const ttl = 60;

/**
 * The sandbox's only name server. It asks nobody: an allowed name gets a synthetic address, everything
 * else is refused, so no data leaves in the names that are asked for.
 */
export class Responder {
  readonly #allowList: AllowList;
  readonly #addresses: SyntheticAddresses;
  readonly #recorder: Recorder;

  constructor(allowList: AllowList, addresses: SyntheticAddresses, recorder: Recorder) {
    this.#allowList = allowList;
    this.#addresses = addresses;
    this.#recorder = recorder;
  }

  /** The answer to one DNS message; undefined: none is due. */
  respond(message: Buffer): Buffer | undefined {
    const query = parseQuery(message);
    if (!("question" in query)) {
      return query.code === undefined ? undefined : encodeFailure(query.id, query.code);
    }
    if (query.type === queryType.PTR) return this.#pointer(query);
    const host = hostOf(query.name);
    if (host?.text === "localhost") return this.#localhost(query);
    if (!host || !this.#allowList.allowsName(host))
      return this.#deny(query, responseCode.nameError);
    return this.#answerAllowed(query, host);
  }

  #answerAllowed(query: Query, host: Host): Buffer {
    const { A, AAAA, HTTPS, SVCB } = queryType;
    // An empty HTTPS or SVCB answer keeps clients from ECH and HTTP/3.
    if (query.type === HTTPS || query.type === SVCB) return this.#answer(query, []);
    if (query.type !== A && query.type !== AAAA) return this.#deny(query, responseCode.refused);
    const addresses = this.#addresses.addressesOf(host.text);
    if (!addresses) return this.#deny(query, responseCode.serverFailure);
    return this.#answer(query, [query.type === A ? addresses.v4 : addresses.v6]);
  }

  #localhost(query: Query): Buffer {
    if (query.type === queryType.A) return this.#answer(query, [{ family: 4, bits: 0x7f000001n }]);
    return this.#answer(query, query.type === queryType.AAAA ? [{ family: 6, bits: 1n }] : []);
  }

  #pointer(query: Query): Buffer {
    const address = addressOfPointer(query.name);
    const name = address && this.#addresses.nameOf(address);
    if (name === undefined) return encodeResponse(query, responseCode.nameError, []);
    this.#note(query, [name]);
    const answer = { type: queryType.PTR, ttl, data: encodeName(name) };
    return encodeResponse(query, responseCode.noError, [answer]);
  }

  #answer(query: Query, addresses: readonly IpAddress[]): Buffer {
    this.#note(query, addresses.map(formatIp));
    const answers: Answer[] = addresses.map((address) => ({
      type: address.family === 4 ? queryType.A : queryType.AAAA,
      ttl,
      data: addressBytes(address),
    }));
    return encodeResponse(query, responseCode.noError, answers);
  }

  #note(query: Query, answers: string[]): void {
    const object = { name: query.name, qtype: typeName(query.type), answers };
    this.#recorder.note({ type: "net.dns", phase: "event", decision: "allow", object });
  }

  #deny(query: Query, code: number): Buffer {
    const object = { name: query.name, qtype: typeName(query.type) };
    const error = new GateError(
      "ERR_NONO_HOST_DENIED",
      `${object.qtype} query for ${JSON.stringify(query.name)} refused: ${
        code === responseCode.nameError
          ? "the name is not on the allow-list"
          : "only A and AAAA are answered"
      }.`,
      { value: query.name },
    );
    this.#recorder.deny({ type: "net.dns", object }, error);
    return encodeResponse(query, code, []);
  }
}

function hostOf(name: string): Host | undefined {
  try {
    const host = parseHost(name);
    return host.address ? undefined : host;
  } catch {
    return undefined;
  }
}

function typeName(type: number): string {
  const known = Object.entries(queryType).find(([, number]) => number === type);
  return known?.[0] ?? `TYPE${type}`; // RFC 3597
}

function addressBytes({ family, bits }: IpAddress): Buffer {
  return Buffer.from(bits.toString(16).padStart(family === 4 ? 8 : 32, "0"), "hex");
}

/** Reads `4.3.2.1.in-addr.arpa` and the nibble form of `ip6.arpa`. */
function addressOfPointer(name: string): IpAddress | undefined {
  const v4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$/.exec(name);
  if (v4) {
    const octets = v4.slice(1).map(Number).toReversed();
    if (octets.some((octet) => octet > 255)) return undefined;
    return { family: 4, bits: BigInt(`0x${Buffer.from(octets).toString("hex")}`) };
  }
  const v6 = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name);
  if (!v6) return undefined;
  const nibbles = (v6[1] ?? "").split(".").toReversed().join("");
  return { family: 6, bits: BigInt(`0x${nibbles}`) };
}
