import { type IpAddress, parseRange, rangeContains } from "../net/ip.ts";

// RFC 2544 benchmarking space: routed nowhere, used by no local network. For IPv6 a unique local prefix
// whose global id spells "nono!" (RFC 4193 asks for any 40 bits).
const range4 = parseRange("198.18.0.0/15");
const range6 = parseRange("fd6e:6f6e:6f21::/48");
const capacity = 65_536;

/**
 * The addresses that the sandbox's DNS answers with. Each name gets one number for the life of the gate,
 * so an address can always be read back as exactly one name; nothing is ever reused.
 */
export class SyntheticAddresses {
  readonly #numbers = new Map<string, number>();
  readonly #names: string[] = [];

  /** The addresses of `name`; undefined when the table is full. */
  addressesOf(name: string): { v4: IpAddress; v6: IpAddress } | undefined {
    let number = this.#numbers.get(name);
    if (number === undefined) {
      if (this.#names.length >= capacity) return undefined;
      number = this.#names.push(name);
      this.#numbers.set(name, number);
    }
    if (!range4 || !range6) throw new TypeError("unreachable: the ranges are constants");
    return {
      v4: { family: 4, bits: range4.base.bits + BigInt(number) },
      v6: { family: 6, bits: range6.base.bits + BigInt(number) },
    };
  }

  /** The name that was answered with `address`; undefined: none was. */
  nameOf(address: IpAddress): string | undefined {
    const range = address.family === 4 ? range4 : range6;
    if (!range || !rangeContains(range, address)) return undefined;
    return this.#names[Number(address.bits - range.base.bits) - 1];
  }
}
