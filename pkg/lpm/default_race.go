//go:build race

package lpm

// Small enough for the whole table to lie where the race detector sees it (see
// package mem).
const defaultRoutes = 1 << 16
