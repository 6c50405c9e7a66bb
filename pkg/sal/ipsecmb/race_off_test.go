//go:build !race && linux && amd64

package ipsecmb_test

const underRace = ""
