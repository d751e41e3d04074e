// Makes src/policy/policy.schema.json from src/policy/policy.ts. With --check: only whether it is current.
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { createGenerator } from "ts-json-schema-generator";

const root = path.resolve(import.meta.dirname, "..");
const file = path.join(root, "src/policy/policy.schema.json");

/** The schema, as text. */
export function schemaText(): string {
  const generator = createGenerator({
    path: path.join(root, "src/policy/policy.ts"),
    tsconfig: path.join(root, "tsconfig.json"),
    type: "Policy",
    topRef: false,
    skipTypeCheck: true, // done by the package's own compiler
  });
  const schema = { title: "A policy of nono", ...generator.createSchema("Policy") };
  return `${JSON.stringify(schema, null, 2)}\n`;
}

if (import.meta.main) {
  const text = schemaText();
  if (process.argv.includes("--check")) {
    if (readFileSync(file, "utf8") !== text) throw new Error("Run pnpm --filter @nono/sdk schema.");
  } else {
    writeFileSync(file, text);
  }
}
