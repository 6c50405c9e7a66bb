//go:build !amd64 || purego

package cbchmac

// There are no kernels here; Supported says so, and nothing gets this far.
const hasAsm = false

func sha16(lanes *byte) uint32             { panic(ErrUnsupported) }
func cbc16(lanes *byte, rounds int) uint32 { panic(ErrUnsupported) }
func decrypt512(jobs *byte, n int)         { panic(ErrUnsupported) }
func sha2(lanes *byte) uint32              { panic(ErrUnsupported) }
func cbc8(lanes *byte, rounds int) uint32  { panic(ErrUnsupported) }
func decrypt128(jobs *byte, n int)         { panic(ErrUnsupported) }
func invert(dec, enc *byte, rounds int)    { panic(ErrUnsupported) }
func features() uint32                     { panic(ErrUnsupported) }
