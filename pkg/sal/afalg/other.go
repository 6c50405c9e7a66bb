//go:build !linux

// Package afalg is an engine that has the Linux kernel do the work; this is another.
package afalg

import (
	"fmt"

	"vrouter/pkg/sal"
)

// New fails: these sockets are Linux's.
func New(string) (sal.Device, error) {
	return nil, fmt.Errorf("crypto sockets of the kernel: %w", sal.ErrNotSupported)
}
