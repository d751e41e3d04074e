import { expect, test } from "vitest";
import { wrappedForms } from "../../src/credentials/encoded-forms.ts";
import { Masker } from "../../src/credentials/masker.ts";
import { real } from "../support/gate.ts";

// Escape case 46: encoders of base64 and hex write lines. GitHub gives a blob as base64 in lines of 60, joined by \n in
// JSON: wherever the agent had the value put in the file, a line may end within it.

const masker = new Masker([Buffer.from(real)]);
const forms = wrappedForms(Buffer.from(real)).map(String);
const lineEnds = ["\n", "\r\n", String.raw`\n`, String.raw`\r\n`, "\n  "];
const unwrapped = (text: string): string => text.replaceAll(/(?:[\r\n]|\\[rn])[\r\n ]*/g, "");

function masked(...parts: string[]): string {
  const stream = masker.stream();
  const chunks = parts.map((part) => stream.push(Buffer.from(part)));
  return Buffer.concat([...chunks, stream.flush()]).toString();
}

function wrapped(text: string, width: number, lineEnd: string): string {
  const lines = text.match(new RegExp(`.{1,${width}}`, "g")) ?? [];
  return lines.map((line) => line + lineEnd).join("");
}

test.each(lineEnds)("a value that goes over a line's end, written %j, is masked", (lineEnd) => {
  for (const width of [57, 60, 64, 76]) {
    for (let before = 0; before < 76; before += 1) {
      const text = Buffer.from(`${"x".repeat(before)}${real}${"y".repeat(40)}`);
      for (const encoding of ["base64", "base64url", "hex"] as const) {
        const said = wrapped(text.toString(encoding), width, lineEnd);
        const form = forms.find((each) => unwrapped(said).includes(each)) ?? "";
        const expected = unwrapped(said).replace(form, "*".repeat(form.length));
        expect(form.length).toBeGreaterThan(real.length);
        expect(unwrapped(masked(said))).toBe(expected);
        expect(masked(said)).toHaveLength(said.length);
      }
    }
  }
});

test("cut at a line's end, no more than half of it gets through; lines of anything else are let go", () => {
  const said = wrapped(
    Buffer.from(`${"x".repeat(30)}${real} and more`).toString("base64"),
    60,
    "\n",
  );
  const form = forms.find((each) => unwrapped(said).includes(each)) ?? "";
  for (let cut = 1; cut < said.length; cut += 1) {
    const answer = masked(said.slice(0, cut), said.slice(cut));
    const hidden = answer.replaceAll(/[^*]/g, "").length;
    expect(hidden, `cut at ${cut}`).toBeGreaterThanOrEqual(form.length / 2);
  }
  const bytes = masked(...said.split(""));
  expect(bytes.replaceAll(/[^*]/g, "").length).toBeGreaterThanOrEqual(form.length / 2);
  const stream = masker.stream();
  const text = Buffer.from(`${"a line of words\n".repeat(50)}${"\\n\n".repeat(5_000)}`);
  expect(stream.push(text).equals(text)).toBe(true);
  expect(stream.flush()).toHaveLength(0);
});
