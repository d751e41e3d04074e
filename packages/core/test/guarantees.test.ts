import { expect, test } from "vitest";
import { createSandbox, guaranteeNames } from "../src/index.ts";
import { tiers, Workspace } from "./workspace.ts";

test.for(tiers)(
  "a sandbox of everything gives all guarantees that have a name (%s)",
  async (tier) => {
    using workspace = new Workspace();
    const capabilities = {
      write: [workspace.path],
      deny: ["**/.env"],
      localhostPorts: [9],
      limits: {
        memory: 256 * 1024 * 1024,
        processes: 4096, // of the flat tier's user, whose other processes count
        cpus: 1,
        openFiles: 64,
        fileSize: 1024,
        cpuSeconds: 10,
        wallSeconds: 10,
      },
    };
    const options = { tier, allowDegraded: guaranteeNames };
    await using sandbox = await createSandbox(capabilities, options);
    const given = sandbox.guarantees.map(({ name }) => name);
    expect(given.toSorted()).toEqual(guaranteeNames.toSorted());
  },
);

test("a gap that is accepted by a name that is none is told, with the names there are", async () => {
  const allowDegraded = ["net-tcp", "tcp"] as unknown as typeof guaranteeNames;
  await expect(createSandbox({}, { allowDegraded })).rejects.toMatchObject({
    code: "ERR_NONO_INVALID_OPTION",
    message: expect.stringMatching(/^allowDegraded\[1\] is not one of "fs-read", .*"net-tcp"/),
    value: "tcp",
  });
});
