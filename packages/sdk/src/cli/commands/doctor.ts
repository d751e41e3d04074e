import { createSandbox, type Guarantee, type Support, support } from "@nono/core";
import type { Command } from "../command.ts";
import { checkKeychain, checkKernel, checkNode, checkState, type Finding } from "../diagnosis.ts";
import { type Colored, print, printJson, printText } from "../output.ts";

interface Report {
  readonly support: Support;
  readonly findings: readonly Finding[];
  /** What a sandbox of each tier that works here promises. */
  readonly tiers: Readonly<Record<string, readonly Guarantee[]>>;
}

/** `nono doctor`. */
export const doctor: Command = {
  name: "doctor",
  summary: "say what this machine can enforce, and what to do about each gap",
  about: `Builds an empty sandbox in each tier, and looks at the kernel, the keychain and
where records are kept. Exit status: 0 when commands can be run, else 1.`,
  flags: [{ name: "json", help: "print one line of JSON" }],
  async run(values) {
    const report = await examine();
    if (values.has("json")) printJson(report);
    else show(report);
    return report.findings.some(({ status }) => status === "broken") ? 1 : 0;
  },
};

async function examine(): Promise<Report> {
  const found = support();
  const available = found.tiers.filter((tier) => tier.available);
  const tiers: Record<string, readonly Guarantee[]> = {};
  for (const { name } of available) {
    await using sandbox = await createSandbox({}, { tier: name as "namespaces" | "flat" });
    tiers[name] = sandbox.guarantees;
  }
  const findings = [checkNode(), ...checkKernel(found), await checkKeychain(), checkState()];
  return { support: found, findings, tiers };
}

function show({ findings, tiers }: Report): void {
  for (const { what, status, detail, remedy } of findings) {
    print(symbol(status), ` ${what}: ${detail}`);
    if (remedy !== undefined) print(`    ${remedy}`);
  }
  for (const [tier, guarantees] of Object.entries(tiers)) {
    printText("");
    const isDefault = tier === Object.keys(tiers)[0];
    print(`guarantees in the tier ${tier}${isDefault ? " (the default here)" : ""}`);
    const width = Math.max(...guarantees.map(({ name }) => name.length));
    for (const { name, status, mechanism, reason } of guarantees) {
      print(symbol(status), ` ${name.padEnd(width)}  ${status.padEnd(8)}  ${mechanism}`);
      if (reason === undefined) continue;
      print({ color: "dim", text: `  ${" ".repeat(width)}            ${reason}` });
    }
  }
}

function symbol(status: Finding["status"] | Guarantee["status"]): Colored {
  switch (status) {
    case "ok":
    case "enforced":
      return { color: "green", text: "+" };
    case "gap":
    case "partial":
      return { color: "yellow", text: "!" };
    case "absent":
      return { color: "yellow", text: "-" };
    default:
      return { color: "red", text: "x" };
  }
}
