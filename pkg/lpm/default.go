//go:build !race

package lpm

const defaultRoutes = 1 << 20
