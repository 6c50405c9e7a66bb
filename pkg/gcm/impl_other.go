//go:build !amd64 || purego

package gcm

// There are no kernels here; Supported says so, and nothing gets this far.
const hasAsm = false

func seal512(jobs *byte, n int, tab *byte) uint64 { panic(ErrUnsupported) }
func open512(jobs *byte, n int, tab *byte) uint64 { panic(ErrUnsupported) }
func seal256(jobs *byte, n int, tab *byte) uint64 { panic(ErrUnsupported) }
func open256(jobs *byte, n int, tab *byte) uint64 { panic(ErrUnsupported) }
func seal128(jobs *byte, n int, tab *byte) uint64 { panic(ErrUnsupported) }
func open128(jobs *byte, n int, tab *byte) uint64 { panic(ErrUnsupported) }
func subWord(x uint32) uint32                     { panic(ErrUnsupported) }
func hashKey(h, rk *byte, rounds int)             { panic(ErrUnsupported) }
func powers(anchor, h *byte, n int)               { panic(ErrUnsupported) }
func features() uint32                            { panic(ErrUnsupported) }
