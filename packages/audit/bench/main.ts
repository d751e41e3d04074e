import process from "node:process";
import { benchAppend } from "./append.ts";
import { benchVerify, soakMemory } from "./verify.ts";

if (process.argv.includes("--soak")) {
  await soakMemory(10_000_000);
} else {
  await benchAppend();
  await benchVerify();
}
