import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { root } from "./support.ts";

/** Compiles the modules in a directory as this project's own are, and says what the compiler printed. */
export function compile(
  directory: string,
  options: Readonly<Record<string, boolean>> = {},
): { readonly status: number | null; readonly stdout: string } {
  const config = {
    extends: path.join(root, "tsconfig.base.json"),
    compilerOptions: {
      noEmit: true,
      noUnusedLocals: false,
      isolatedDeclarations: false,
      declaration: false,
      declarationMap: false,
      ...options,
    },
    include: ["*.ts"],
  };
  writeFileSync(path.join(directory, "package.json"), '{ "type": "module" }');
  writeFileSync(path.join(directory, "tsconfig.json"), JSON.stringify(config));
  const tsc = path.join(root, "node_modules/.bin/tsc");
  return spawnSync(tsc, ["-p", directory], { encoding: "utf8" });
}
