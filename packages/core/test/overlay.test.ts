import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
} from "node:fs";
import { expect, test } from "vitest";
import { createSandbox, type OverlayMount } from "../src/index.ts";
import { tiers, tools } from "./workspace.ts";

test("commands write to the upper layer of an overlay", async () => {
  const place = realpathSync(mkdtempSync("/var/tmp/nono-overlay-"));
  for (const name of ["w", "upper", "work"]) mkdirSync(`${place}/${name}`);
  const [target, upper, work] = [`${place}/w`, `${place}/upper`, `${place}/work`];
  const mount: OverlayMount = { type: "overlay", target, lower: target, upper, work };
  try {
    if (tiers.includes("namespaces")) {
      const sandbox = await createSandbox(
        { write: [target], exec: tools },
        { tier: "namespaces", mounts: [mount] },
      );
      const { stdout } = await sandbox.run([
        "sh",
        "-c",
        `echo made >${target}/new; cat ${target}/new`,
      ]);
      await sandbox.close();
      expect(stdout).toBe("made\n");
      expect(existsSync(`${target}/new`)).toBe(false);
      expect(readFileSync(`${upper}/new`, "utf8")).toBe("made\n");
    } else console.log("SKIPPED: overlays: no tier namespaces here");
    const refused = createSandbox({ write: [target] }, { tier: "flat", mounts: [mount] });
    await expect(refused).rejects.toMatchObject({ code: "ERR_NONO_UNSUPPORTED_POLICY" });
    const within = createSandbox({ write: [place] }, { mounts: [mount] });
    await expect(within).rejects.toMatchObject({ code: "ERR_NONO_INVALID_CAPABILITIES" });
    const wrong = createSandbox({}, { mounts: [{ ...mount, type: "bind" as never }] });
    await expect(wrong).rejects.toMatchObject({ code: "ERR_NONO_INVALID_OPTION" });
  } finally {
    // The kernel leaves a directory of mode 000 there.
    if (existsSync(`${work}/work`)) chmodSync(`${work}/work`, 0o700);
    rmSync(place, { recursive: true, force: true });
  }
});
