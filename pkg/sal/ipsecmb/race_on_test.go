//go:build race && linux && amd64

package ipsecmb_test

// Under the race detector a sync.Pool forgets what it has at random, and calls into
// the library take their arguments from one.
const underRace = "calls take memory from a sync.Pool"
