/** An IP address as a number: 32 bits for IPv4, 128 for IPv6. Mapped IPv4 (`::ffff:0:0/96`) is IPv4. */
export interface IpAddress {
  readonly family: 4 | 6;
  readonly bits: bigint;
}

/** An address range in CIDR notation; the bits behind the prefix are zero. */
export interface IpRange {
  readonly base: IpAddress;
  readonly prefix: number;
}

const mappedPrefix = 0xffffn;

/** Parses the strict textual forms: four decimal octets, or RFC 4291 IPv6 without zone. */
export function parseIp(text: string): IpAddress | undefined {
  return text.includes(":") ? parseIpv6(text) : parseIpv4(text);
}

function parseIpv4(text: string): IpAddress | undefined {
  const octets = text.split(".");
  if (octets.length !== 4) return undefined;
  let bits = 0n;
  for (const octet of octets) {
    // A leading zero is octal to some resolvers and decimal to others.
    if (!/^(0|[1-9]\d{0,2})$/.test(octet) || Number(octet) > 255) return undefined;
    bits = (bits << 8n) | BigInt(octet);
  }
  return { family: 4, bits };
}

function parseIpv6(text: string): IpAddress | undefined {
  let source = text;
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (dotted) {
    const tail = parseIpv4(dotted[2] ?? "");
    if (!tail) return undefined;
    source = `${dotted[1]}${(tail.bits >> 16n).toString(16)}:${(tail.bits & 0xffffn).toString(16)}`;
  }
  const halves = source.split("::");
  if (halves.length > 2) return undefined;
  const [head = [], tail = []] = halves.map((half) => (half === "" ? [] : half.split(":")));
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  let bits = 0n;
  for (const group of [...head, ...Array<string>(missing).fill("0"), ...tail]) {
    if (!/^[0-9a-f]{1,4}$/i.test(group)) return undefined;
    bits = (bits << 16n) | BigInt(`0x${group}`);
  }
  return unmap({ family: 6, bits });
}

/** `::ffff:a.b.c.d` is the IPv4 address to the kernel, so it is to the policy. */
function unmap(address: IpAddress): IpAddress {
  return address.bits >> 32n === mappedPrefix
    ? { family: 4, bits: address.bits & 0xffffffffn }
    : address;
}

/** The canonical text: dotted decimal, or RFC 5952. */
export function formatIp({ family, bits }: IpAddress): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => (bits >> shift) & 0xffn).join(".");
  const groups = Array.from({ length: 8 }, (_, i) => (bits >> BigInt(112 - 16 * i)) & 0xffffn);
  const text = groups.map((group) => group.toString(16)).join(":");
  const [longest = ""] = (text.match(/\b0(?::0)+\b/g) ?? []).sort((a, b) => b.length - a.length);
  if (longest === "") return text;
  const at = text.search(new RegExp(String.raw`\b${longest}\b`));
  const before = text.slice(0, at).replace(/:$/, "");
  const after = text.slice(at + longest.length).replace(/^:/, "");
  return `${before}::${after}`;
}

/** Parses `address/prefix`. A range with bits behind its prefix is refused: it says two things. */
export function parseRange(text: string): IpRange | undefined {
  const [address = "", prefixText = "", ...rest] = text.split("/");
  const base = parseIp(address);
  if (!base || rest.length > 0 || !/^\d{1,3}$/.test(prefixText)) return undefined;
  const prefix = Number(prefixText);
  if (prefix > width(base) || (base.family === 4 && address.includes(":"))) return undefined;
  const range = { base, prefix };
  return masked(base, prefix) === base.bits ? range : undefined;
}

/** The range of one address. */
export function singleRange(base: IpAddress): IpRange {
  return { base, prefix: width(base) };
}

export function rangeContains(range: IpRange, address: IpAddress): boolean {
  return range.base.family === address.family && masked(address, range.prefix) === range.base.bits;
}

/** Whether every address of `inner` is in `outer`. */
export function rangeWithin(inner: IpRange, outer: IpRange): boolean {
  return inner.prefix >= outer.prefix && rangeContains(outer, inner.base);
}

function width(address: IpAddress): number {
  return address.family === 4 ? 32 : 128;
}

function masked(address: IpAddress, prefix: number): bigint {
  const host = BigInt(width(address) - prefix);
  return (address.bits >> host) << host;
}
