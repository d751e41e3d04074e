// Where tools fetch packages from: reading only, so that nothing can be published to them.
import type { NetworkRule } from "../policy.ts";
import type { Preset } from "./preset.ts";

const readOnly = (...hosts: string[]): { allow: string[]; rules: NetworkRule[] } => ({
  allow: hosts,
  rules: hosts.map((host) => ({ host, allow: ["GET /**"] })),
});

/** The npm registry: installs and audits, no publishing. */
export const npmRegistry: Preset = {
  summary: "fetching from registry.npmjs.org",
  policy: () => {
    const host = "registry.npmjs.org";
    const audit = "POST /-/npm/v1/security/**";
    return { network: { allow: [host], rules: [{ host, allow: ["GET /**", audit] }] } };
  },
};

/** The Python Package Index. */
export const pypi: Preset = {
  summary: "fetching from pypi.org",
  policy: () => ({ network: readOnly("pypi.org", "files.pythonhosted.org") }),
};

/** crates.io, its index and its archives. */
export const cratesIo: Preset = {
  summary: "fetching from crates.io",
  policy: () => ({ network: readOnly("index.crates.io", "static.crates.io", "crates.io") }),
};

/** The Go module proxy and its checksum database. */
export const goProxy: Preset = {
  summary: "fetching from proxy.golang.org",
  policy: () => ({ network: readOnly("proxy.golang.org", "sum.golang.org") }),
};

/** GitHub, by HTTPS, with a token from the keychain that git and gh never have. */
export const github: Preset = {
  summary: "github.com and its API, with the keychain's GITHUB_TOKEN",
  policy: () => ({
    network: {
      allow: ["github.com", "api.github.com", "codeload.github.com", "*.githubusercontent.com"],
    },
    credentials: [{ name: "GITHUB_TOKEN", proxyTo: ["github.com", "api.github.com"] }],
  }),
};
