// A policy's credential as the gate wants it.
import type { CredentialConfig } from "@nono/proxy";
import type { Credential } from "../network.ts";
import type { PolicyCredential, PolicySource } from "./policy.ts";

/** The argument of {@link Sandbox.injectCredential} for what a policy says. */
export function credentialOf({ scheme, from, ...credential }: PolicyCredential): Credential {
  return {
    ...credential,
    ...(scheme !== undefined && { scheme: schemeOf(scheme) }),
    ...(from === undefined ? { tokenFromKeychain: true } : sourceOf(from)),
  };
}

function schemeOf(
  scheme: NonNullable<PolicyCredential["scheme"]>,
): NonNullable<CredentialConfig["scheme"]> {
  return typeof scheme === "string" ? scheme : { type: "header", ...scheme };
}

function sourceOf(from: PolicySource): Pick<Credential, "tokenFrom" | "tokenFromKeychain"> {
  if ("keychain" in from) return { tokenFromKeychain: from.keychain };
  // The package is loaded when the value is read, not when the policy is.
  const source = async (): Promise<import("@nono/proxy").CredentialSource> => {
    const { fromCommand, fromEnv, fromFile } = await import("@nono/proxy");
    if ("env" in from) return fromEnv(from.env);
    if ("file" in from) return fromFile(from.file);
    const [program = "", ...args] = from.command;
    // Not in the current directory: that is the commands', and tools do what files there say.
    return fromCommand([program, ...args], { cwd: "/" });
  };
  const [kind = ""] = Object.keys(from);
  return {
    tokenFrom: { description: `${kind} of the policy`, read: async () => (await source()).read() },
  };
}
