import process from "node:process";
import { ledgerVkey, recordPlaces } from "../../audit.ts";
import type { ForeignCommand } from "../command.ts";
import { withProgress } from "../progress.ts";

/** `nono audit`: the commands of `@nono/audit`. */
export const audit: ForeignCommand = {
  name: "audit",
  summary: "verify, show and export what is on record",
  complete: ["verify", "show", "tail", "prove", "redact", "anchor", "export", "doctor"],
  async runRaw(args) {
    const { runAuditCommand } = await import("@nono/audit/cli");
    const work = runAuditCommand(args, {
      stdout: (text) => process.stdout.write(text),
      stderr: (text) => process.stderr.write(text),
      records: { ...recordPlaces(), vkey: ledgerVkey },
    });
    return args[0] === "verify" ? withProgress("verifying", work) : work;
  },
};
