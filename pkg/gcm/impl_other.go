//go:build !amd64 || purego

package gcm

// There are no kernels here; Supported says so, and nothing gets this far.
const hasAsm = false

func sealBurst(jobs *byte, n int, tab *byte) uint64 { panic(ErrUnsupported) }
func openBurst(jobs *byte, n int, tab *byte) uint64 { panic(ErrUnsupported) }
func subWord(x uint32) uint32                       { panic(ErrUnsupported) }
func hashKey(h, rk *byte, rounds int)               { panic(ErrUnsupported) }
func powers(anchor, h *byte, n int)                 { panic(ErrUnsupported) }
