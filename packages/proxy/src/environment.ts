import { createHash, X509Certificate } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  mkdtempSync,
  openSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { prefixOf, staleDirectories } from "./stale-directories.ts";

/** Files that clients read to trust the gate's authority. They hold public certificates only. */
export interface TrustFiles {
  /** The directory of the others; to be readable inside the sandbox. */
  readonly directory: string;
  /** The gate's certificate alone, for clients that add it to their own list. */
  readonly certificate: string;
  /** The machine's roots and the gate's, for clients that replace their list. */
  readonly bundle: string;
  /** The same as a Java key store. */
  readonly javaStore: string;
  /** Settings of wget, which has no variable for this. */
  readonly wgetrc: string;
}

const kind = "nono-gate";
const javaPassword = "changeit"; // Java's own default: it protects nothing, the store is public

/** Writes the trust files to a new directory below the system's temporary one. */
export function writeTrustFiles(certificate: string, roots: readonly string[]): TrustFiles {
  staleDirectories(kind, tmpdir()).forEach(removeDirectory);
  const directory = mkdtempSync(path.join(tmpdir(), prefixOf(kind)));
  chmodSync(directory, 0o755);
  const files = filesIn(directory);
  const all = [...roots, certificate];
  const options = { mode: 0o644 };
  writeFileSync(files.certificate, certificate, options);
  writeFileSync(files.bundle, all.map((pem) => `${pem.trim()}\n`).join(""), options);
  writeFileSync(files.javaStore, javaKeyStore(all), options);
  writeFileSync(files.wgetrc, `ca_certificate = ${files.bundle}\n`, options);
  return files;
}

export function removeTrustFiles({ directory }: TrustFiles): void {
  removeDirectory(directory);
}

function filesIn(directory: string): TrustFiles {
  return {
    directory,
    certificate: path.join(directory, "ca.pem"),
    bundle: path.join(directory, "bundle.pem"),
    javaStore: path.join(directory, "trust.jks"),
    wgetrc: path.join(directory, "wgetrc"),
  };
}

/**
 * Deletes a directory of trust files, if it is one of this user's and nothing else is in it. What is looked at is what
 * is deleted: commands that may write to the temporary directory could put a link in its place.
 */
function removeDirectory(directory: string): void {
  try {
    const fd = openSync(
      directory,
      constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW,
    );
    try {
      if (fstatSync(fd).uid !== process.geteuid?.()) return;
      // Without /proc, as on macOS, by its name.
      const opened = existsSync(`/proc/self/fd/${fd}`) ? `/proc/self/fd/${fd}` : directory;
      const { directory: _, ...files } = filesIn(opened);
      for (const file of Object.values(files)) rmSync(file, { force: true });
    } finally {
      closeSync(fd);
    }
    rmdirSync(directory);
  } catch {
    // Somebody else is about to delete it, or has put something there.
  }
}

/** The variables by which clients find the authority; one line for each reader. */
export function trustEnvironment(files: TrustFiles): Record<string, string> {
  return {
    NODE_EXTRA_CA_CERTS: files.certificate, // Node, npm, pnpm
    DENO_CERT: files.certificate,
    SSL_CERT_FILE: files.bundle, // OpenSSL, Go, Ruby, rustls-native-certs, Python's ssl and httpx
    CURL_CA_BUNDLE: files.bundle,
    REQUESTS_CA_BUNDLE: files.bundle,
    PIP_CERT: files.bundle,
    GIT_SSL_CAINFO: files.bundle,
    CARGO_HTTP_CAINFO: files.bundle,
    AWS_CA_BUNDLE: files.bundle,
    GRPC_DEFAULT_SSL_ROOTS_FILE_PATH: files.bundle, // gRPC in C, Python, Ruby, PHP and Node
    GRPC_DNS_RESOLVER: "native", // getaddrinfo(3): its own resolver asks over UDP alone
    CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE: files.bundle,
    WGETRC: files.wgetrc,
    JAVA_TOOL_OPTIONS:
      `-Djavax.net.ssl.trustStore=${files.javaStore} ` +
      `-Djavax.net.ssl.trustStorePassword=${javaPassword} -Djavax.net.ssl.trustStoreType=JKS`,
  };
}

/** The variables by which clients find the explicit proxy, beside those of {@link trustEnvironment}. */
export function proxyEnvironment(
  { host, port }: { host: string; port: number },
  token: string,
  trust: Record<string, string>,
): Record<string, string> {
  const url = `http://nono:${token}@${host.includes(":") ? `[${host}]` : host}:${port}`;
  // The agent's own servers are reached directly; in a sandbox they are all that loopback has.
  const direct = "localhost,127.0.0.1,::1";
  return {
    HTTP_PROXY: url,
    http_proxy: url,
    HTTPS_PROXY: url,
    https_proxy: url,
    ALL_PROXY: url,
    all_proxy: url,
    NO_PROXY: direct,
    no_proxy: direct,
    NODE_USE_ENV_PROXY: "1", // Node from 24.0
    // Java has no setting for the token: a program gives it by its Authenticator, for which Basic must not be off.
    JAVA_TOOL_OPTIONS:
      `${trust["JAVA_TOOL_OPTIONS"]} -Dhttp.proxyHost=${host} -Dhttp.proxyPort=${port} ` +
      `-Dhttps.proxyHost=${host} -Dhttps.proxyPort=${port} -Djdk.http.auth.tunneling.disabledSchemes=`,
  };
}

/** A Java key store (JKS, version 2) of trusted certificates; Java's PKCS 12 needs attributes of its own. */
function javaKeyStore(certificates: readonly string[]): Buffer {
  const text = (value: string): Buffer => {
    const bytes = Buffer.from(value);
    return Buffer.concat([uint(bytes.length, 2), bytes]);
  };
  const entries = certificates.map((pem, index) => {
    const der = derOf(pem);
    const trustedCertificate = 2;
    const created = Buffer.alloc(8);
    created.writeBigUInt64BE(BigInt(Date.now()));
    return Buffer.concat([
      uint(trustedCertificate, 4),
      text(`nono${index}`),
      created,
      text("X.509"),
      uint(der.length, 4),
      der,
    ]);
  });
  const body = Buffer.concat([
    uint(0xfeedfeed, 4),
    uint(2, 4),
    uint(entries.length, 4),
    ...entries,
  ]);
  const password = Buffer.from(javaPassword, "utf16le").swap16();
  const digest = createHash("sha1")
    .update(password)
    .update("Mighty Aphrodite")
    .update(body)
    .digest();
  return Buffer.concat([body, digest]);
}

/** A machine has more than a hundred roots; to read each by X509Certificate would take most of a gate's start. */
function derOf(pem: string): Buffer {
  const base64 = /^-----BEGIN CERTIFICATE-----([^-]+)-----END CERTIFICATE-----\s*$/.exec(pem)?.[1];
  return base64 === undefined ? new X509Certificate(pem).raw : Buffer.from(base64, "base64");
}

function uint(value: number, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.writeUIntBE(value, 0, size);
  return bytes;
}
