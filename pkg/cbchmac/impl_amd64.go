//go:build !purego

package cbchmac

const hasAsm = true
