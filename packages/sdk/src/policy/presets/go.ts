import { execFileSync } from "node:child_process";
import type { Preset } from "./preset.ts";

/**
 * Go's tool chain. `go run` and `go test` execute what they have built, in `$SCRATCH`. What go fetches
 * needs `go-proxy` besides.
 */
export const go: Preset = {
  summary: "go and its tools; executes what it builds",
  policy: (host) => {
    const program = host.program("go");
    const root =
      program === undefined
        ? "/usr/local/go"
        : execFileSync(program, ["env", "GOROOT"], { encoding: "utf8", timeout: 10_000 }).trim();
    return {
      extends: "scratch",
      exec: [
        "go",
        `${root}/bin?`,
        `${root}/pkg/tool?`,
        "$SCRATCH",
        "gcc?",
        "/usr/lib/gcc?",
        "ld?",
        "as?",
      ],
      read: [root, "$WORKSPACE"],
      env: {
        set: {
          GOROOT: root,
          GOPATH: "$SCRATCH/go",
          GOCACHE: "$SCRATCH/go-build",
          GOENV: "off",
          GOTELEMETRY: "off",
          GOTOOLCHAIN: "local",
        },
      },
    };
  },
};
