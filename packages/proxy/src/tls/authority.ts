import {
  type KeyObject,
  createHash,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  sign,
} from "node:crypto";
import tls from "node:tls";
import type { Host } from "../net/host.ts";
import * as der from "./der.ts";

const ecdsaWithSha256 = der.sequence(der.objectIdentifier("1.2.840.10045.4.3.2"));
const hour = 3_600_000;
/** A sandbox that lives longer than this gets TLS errors, not a stale authority. */
const lifetime = 30 * 24 * hour;
/** Secure contexts kept; each holds a few tens of kilobytes in OpenSSL. */
const maxContexts = 512;

/**
 * A certificate authority of one sandbox. Its key is made here, stays in this process's memory and signs nothing
 * but the leaf certificates of hosts that the gate terminates.
 */
export class CertificateAuthority {
  /** The authority's certificate, PEM. */
  readonly certificate: string;
  readonly #key: KeyObject;
  readonly #name: Buffer;
  readonly #keyId: Buffer;
  readonly #leafKeyPem: string;
  readonly #leafPublicKey: Buffer;
  readonly #contexts = new Map<string, tls.SecureContext>();

  constructor() {
    const own = newKey();
    this.#key = own.privateKey;
    // A name of its own: a client that has met two sandboxes must not mix up their authorities.
    this.#name = commonName(`nono sandbox ${randomBytes(4).toString("hex")}`);
    this.#keyId = createHash("sha1").update(own.spki).digest();
    this.certificate = pem(
      this.#issue(this.#name, own.spki, [
        extension(
          "2.5.29.19",
          true,
          der.sequence(der.boolean(true), der.integer(Buffer.from([0]))),
        ),
        extension("2.5.29.15", true, der.bitString(Buffer.from([0x06]), 1)), // keyCertSign, cRLSign
        extension("2.5.29.14", false, der.octetString(this.#keyId)),
      ]),
    );
    const leaf = newKey();
    this.#leafKeyPem = leaf.privateKey.export({ type: "pkcs8", format: "pem" }) as string;
    this.#leafPublicKey = leaf.spki;
  }

  /** The TLS server context that speaks for `host`; made at first use, kept while it is among the recent. */
  contextFor(host: Host): tls.SecureContext {
    const kept = this.#contexts.get(host.text);
    const context =
      kept ??
      tls.createSecureContext({
        key: this.#leafKeyPem,
        cert: this.leafFor(host),
        minVersion: "TLSv1.2",
      });
    this.#contexts.delete(host.text);
    this.#contexts.set(host.text, context);
    const [oldest] = this.#contexts.keys();
    if (this.#contexts.size > maxContexts && oldest !== undefined) this.#contexts.delete(oldest);
    return context;
  }

  /** A leaf certificate for `host`, PEM. */
  leafFor(host: Host): string {
    // The name stands only in the alternative names: a common name ends at 64 characters.
    const name = host.address
      ? der.implicit(7, addressBytes(host))
      : der.implicit(2, Buffer.from(host.text));
    return pem(
      this.#issue(der.sequence(), this.#leafPublicKey, [
        extension("2.5.29.17", true, der.sequence(name)),
        extension("2.5.29.19", true, der.sequence()),
        extension("2.5.29.15", true, der.bitString(Buffer.from([0x80]), 7)), // digitalSignature
        extension("2.5.29.37", false, der.sequence(der.objectIdentifier("1.3.6.1.5.5.7.3.1"))),
        extension("2.5.29.35", false, der.sequence(der.implicit(0, this.#keyId))),
      ]),
    );
  }

  #issue(subject: Buffer, spki: Buffer, extensions: Buffer[]): Buffer {
    const serial = randomBytes(16);
    serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40; // positive, and never shorter than 16 bytes
    const now = Date.now();
    const validity = der.sequence(
      der.time(new Date(now - hour)), // a client whose clock is a little behind
      der.time(new Date(now + lifetime)),
    );
    const body = der.sequence(
      der.explicit(0, der.integer(Buffer.from([2]))), // v3
      der.integer(serial),
      ecdsaWithSha256,
      this.#name,
      validity,
      subject,
      spki,
      der.explicit(3, der.sequence(...extensions)),
    );
    return der.sequence(body, ecdsaWithSha256, der.bitString(sign("sha256", body, this.#key)));
  }
}

function newKey(): { privateKey: KeyObject; spki: Buffer } {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const spki = createPublicKey(privateKey).export({ type: "spki", format: "der" });
  return { privateKey, spki };
}

function commonName(text: string): Buffer {
  const attribute = der.sequence(der.objectIdentifier("2.5.4.3"), der.utf8String(text));
  return der.sequence(der.set(attribute));
}

function extension(id: string, critical: boolean, value: Buffer): Buffer {
  const flag = critical ? [der.boolean(true)] : [];
  return der.sequence(der.objectIdentifier(id), ...flag, der.octetString(value));
}

function addressBytes(host: Host): Buffer {
  const { family = 4, bits = 0n } = host.address ?? {};
  return Buffer.from(bits.toString(16).padStart(family === 4 ? 8 : 32, "0"), "hex");
}

function pem(certificate: Buffer): string {
  const lines = certificate.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}
