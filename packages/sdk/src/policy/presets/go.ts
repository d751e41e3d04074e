import { developerTools } from "./installation.ts";
import type { Preset } from "./preset.ts";

/**
 * Go's tool chain. `go run` and `go test` execute what they have built, in `$SCRATCH`. What go fetches
 * needs `go-proxy` besides.
 */
export const go: Preset = {
  summary: "go and its tools; executes what it builds",
  policy: (host) => {
    // Without local, it would fetch and run what go.mod asks for.
    const said = host.askPath("go", ["env", "GOROOT"], { GOTOOLCHAIN: "local" });
    const root = said && !host.isTooWide(said) ? said : "/usr/local/go";
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
        ...developerTools,
      ],
      read: [root, ...developerTools, "$WORKSPACE"],
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
