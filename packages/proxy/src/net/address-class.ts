import { type IpAddress, type IpRange, parseRange, rangeContains } from "./ip.ts";

/** Why an address is not an ordinary public one. */
export type SpecialClass =
  | "metadata"
  | "unspecified"
  | "loopback"
  | "private"
  | "link-local"
  | "cgnat"
  | "multicast"
  | "embedded-ipv4"
  | "reserved";

/** A special range; the first that contains an address names its class. */
export interface SpecialRange {
  readonly class: SpecialClass;
  readonly range: IpRange;
}

// IANA special-purpose registries (RFC 6890 and successors), and the clouds' metadata services, which
// hand out the machine's own credentials to whoever can connect.
const table: readonly SpecialRange[] = (
  [
    ["metadata", "169.254.169.254/32"], // AWS, GCP, Azure, DigitalOcean, OpenStack
    ["metadata", "169.254.170.2/32"], // AWS ECS task credentials
    ["metadata", "169.254.170.23/32"], // AWS EKS pod identity
    ["metadata", "169.254.169.253/32"], // AWS VPC resolver
    ["metadata", "169.254.0.0/30"], // OpenStack and Scaleway variants
    ["metadata", "168.63.129.16/32"], // Azure wire server: a public address that never leaves the host
    ["metadata", "100.100.100.200/32"], // Alibaba
    ["metadata", "192.0.0.192/32"], // Oracle
    ["metadata", "fd00:ec2::254/128"], // AWS over IPv6
    ["metadata", "fd00:ec2::23/128"], // AWS EKS pod identity over IPv6
    ["metadata", "fd20:ce::254/128"], // GCP over IPv6
    ["metadata", "fe80::a9fe:a9fe/128"], // OpenStack over IPv6
    ["unspecified", "0.0.0.0/8"], // connect() to 0.0.0.0 reaches loopback on Linux
    ["loopback", "127.0.0.0/8"],
    ["private", "10.0.0.0/8"],
    ["private", "172.16.0.0/12"],
    ["private", "192.168.0.0/16"],
    ["link-local", "169.254.0.0/16"],
    ["cgnat", "100.64.0.0/10"],
    ["reserved", "192.0.0.0/24"],
    ["reserved", "192.0.2.0/24"],
    ["embedded-ipv4", "192.88.99.0/24"], // 6to4 relay anycast
    ["reserved", "198.18.0.0/15"], // benchmarking; our synthetic addresses
    ["reserved", "198.51.100.0/24"],
    ["reserved", "203.0.113.0/24"],
    ["multicast", "224.0.0.0/4"],
    ["reserved", "240.0.0.0/4"],
    ["unspecified", "::/128"],
    ["loopback", "::1/128"],
    ["embedded-ipv4", "::/96"], // deprecated IPv4-compatible
    ["embedded-ipv4", "::ffff:0:0:0/96"], // IPv4-translated (RFC 2765)
    ["embedded-ipv4", "64:ff9b::/96"], // NAT64
    ["embedded-ipv4", "64:ff9b:1::/48"], // local-use NAT64
    ["embedded-ipv4", "2002::/16"], // 6to4
    ["embedded-ipv4", "2001::/32"], // Teredo
    ["reserved", "100::/64"], // discard
    ["reserved", "100:0:0:1::/64"], // dummy prefix (RFC 9780)
    ["reserved", "2001:2::/48"],
    ["reserved", "2001:10::/28"],
    ["reserved", "2001:20::/28"],
    ["reserved", "2001:db8::/32"],
    ["reserved", "3fff::/20"],
    ["reserved", "5f00::/16"],
    ["private", "fc00::/7"],
    ["link-local", "fe80::/10"],
    ["private", "fec0::/10"], // deprecated site-local
    ["multicast", "ff00::/8"],
  ] as const
).map(([name, text]) => {
  const range = parseRange(text);
  if (!range) throw new TypeError(`not a CIDR range: ${text}`);
  return { class: name, range };
});

/**
 * ISATAP (RFC 5214 section 6.1): under any prefix the last 64 bits are 0000:5efe or 0200:5efe, and an IPv4 address to which
 * a host with such an interface sends the packet.
 */
function isatapRange({ family, bits }: IpAddress): SpecialRange | undefined {
  if (family === 4 || ((bits >> 32n) & 0xfdff_ffffn) !== 0x5efen) return undefined;
  const base: IpAddress = { family, bits: (bits >> 32n) << 32n };
  return { class: "embedded-ipv4", range: { base, prefix: 96 } };
}

/** The special range that `address` lies in; undefined: a public address. */
export function specialRangeOf(address: IpAddress): SpecialRange | undefined {
  return table.find(({ range }) => rangeContains(range, address)) ?? isatapRange(address);
}
