//go:build !purego

package gcm

const hasAsm = true
