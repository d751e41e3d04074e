//go:build vectors

// A module whose data the tests read; nothing of it is compiled.
package main

import _ "github.com/c2sp/wycheproof"
