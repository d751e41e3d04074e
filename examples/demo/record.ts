// The record of all of the above: verified, then one byte of it is flipped.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { formatReport, type Report, verifyLog } from "@nono/audit";

/** Whether the record holds, and no longer does when it was touched. */
export async function testRecord(directory: string): Promise<boolean> {
  const sessions = path.join(directory, "sessions");
  const logs = readdirSync(sessions).map((name) => path.join(sessions, name));
  const reports = await Promise.all(logs.map((log) => verifyLog(log, {})));
  const entries = reports.reduce((sum, { size }) => sum + size, 0);
  const intact = reports.every(({ problems, closed }) => problems.length === 0 && closed);
  console.log("\nAll of it is on record:\n");
  console.log(`${logs.length} sandboxes, ${entries} entries: ${intact ? "intact" : "NOT INTACT"}`);

  const [log = ""] = logs;
  flipOneByte(log);
  const report: Report = await verifyLog(log, {});
  const noticed = report.verdict === "TAMPERED" && report.problems.length > 0;
  const problem = formatReport(report)
    .split("\n")
    .find((line) => line.includes("tile/entries"));
  console.log(`one byte flipped: ${report.verdict}, ${problem?.trim() ?? "nothing was noticed"}`);
  return intact && noticed;
}

function flipOneByte(log: string): void {
  const bundles = path.join(log, "tile", "entries");
  const names = readdirSync(bundles, { recursive: true, encoding: "utf8" });
  const bundle = path.join(bundles, names.find((name) => /\/\d+$/.test(name)) ?? "");
  const bytes = readFileSync(bundle);
  bytes[bytes.length - 20] = (bytes[bytes.length - 20] ?? 0) ^ 1;
  writeFileSync(bundle, bytes);
}
