import process from "node:process";

/**
 * node:http. When an ES module imports it, all of its exports are read, and one of them loads the undici within Node
 * (`lazyUndici` in its lib/http.js), which takes a good part of a gate's start.
 */
export const nodeHttp: typeof import("node:http") = process.getBuiltinModule("node:http");
