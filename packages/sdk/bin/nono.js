#!/usr/bin/env node
// Stands still, so that package managers can link it before the package is built.
await import("../dist/cli/main.js");
