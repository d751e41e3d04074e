// Makes src/policy/policy.schema.json from src/policy/policy.ts. A test compares the two.
import { writeFileSync } from "node:fs";
import path from "node:path";
import { createGenerator } from "ts-json-schema-generator";

const root = path.resolve(import.meta.dirname, "..");

/** The JSON Schema of policy files. */
export function schema(): object {
  const generator = createGenerator({
    path: path.join(root, "src/policy/policy.ts"),
    tsconfig: path.join(root, "tsconfig.json"),
    type: "Policy",
    topRef: false,
    skipTypeCheck: true, // done by the package's own compiler
  });
  return { title: "A policy of nono", ...generator.createSchema("Policy") };
}

if (import.meta.main) {
  const file = path.join(root, "src/policy/policy.schema.json");
  writeFileSync(file, `${JSON.stringify(schema(), null, 2)}\n`);
}
