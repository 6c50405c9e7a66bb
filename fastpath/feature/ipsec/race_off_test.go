//go:build !race

package ipsec_test

// raceEnabled: the race detector multiplies memory.
const raceEnabled = false
