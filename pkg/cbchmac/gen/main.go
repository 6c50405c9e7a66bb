// Command gen writes the kernels of package cbchmac: sha.go SHA-256 over sixteen
// messages at once by AVX-512, wide.go AES-CBC by VAES, narrow.go both for
// processors without AVX-512, by AES-NI and the SHA extensions.
//
// A hash and a chain are serial, so packets are worked on beside each other, each
// in a lane. The kernels know nothing of packets: they take a block from each lane
// and go on until one or more have no block left, then give a mask of these. Lanes
// (type shaLanes and cbcLanes of the package) have a pointer that is moved by a
// step, and a count of blocks; a lane without work has a step of 0.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Lanes of a hash; must match type shaLanes in lanes.go.
const (
	shaWide  = 16
	shaH     = 0 // wide: word w of lane i at 64w+4i; narrow: see sha2
	shaPtr   = 512
	shaStep  = 640
	shaLeft  = 768
	shaBlock = 64
)

// Lanes of a chain; must match type cbcLanes in lanes.go.
const (
	cbcWide   = 16 // lanes by VAES, four in a register
	cbcNarrow = 8
	cbcChain  = 0
	cbcPtr    = 256
	cbcStep   = 384
	cbcLeft   = 512
	cbcRK     = 576 // round key r of lane i at 256r+16i
	cbcRow    = 256
	cbcAhead  = 192 // bytes: how far ahead text is asked for
)

// Job and context; must match type Job and the offsets in cbchmac.go.
const (
	jobKey  = 0
	jobText = 8
	jobLen  = 16
	jobBad  = 32
	jobSize = 40

	ctxRounds = 0
	ctxDec    = 384
)

var zs = []reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7, reg.Z8, reg.Z9, reg.Z10,
	reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15, reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
	reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31}

// z and x are register i, and the lower 128 bits of it.
func z(i int) reg.VecPhysical { return zs[i] }
func x(i int) reg.VecPhysical { return zs[i].AsX().(reg.VecPhysical) }

func m(r reg.Register, d int) Mem { return Mem{Base: r, Disp: d} }

// wipe leaves no key, text or state of a hash in vector registers.
func wipe(wide bool) {
	VZEROALL()
	for i := 16; i < 32 && wide; i++ {
		VPXORQ(x(i), x(i), x(i))
	}
}

// quadMasks are the masks of the second to fourth 128 bits of a register, in K1 to
// K3.
func quadMasks() {
	for i, k := range []reg.OpmaskPhysical{reg.K1, reg.K2, reg.K3} {
		MOVL(U32(0xf0<<(4*i)), reg.EAX)
		KMOVW(reg.EAX, k)
	}
}

// gather reads 16 bytes at each of four addresses into a register. A masked
// broadcast takes no shuffle, as an insertion would.
func gather(at [4]reg.Register, d, to int) {
	VMOVDQU32(m(at[0], d), x(to))
	for i, k := range []reg.OpmaskPhysical{reg.K1, reg.K2, reg.K3} {
		VBROADCASTI32X4(m(at[i+1], d), k, z(to))
	}
}

// advance moves the pointers of n lanes by 1<<shift blocks and counts these. It leaves
// the mask of those that have none left in EAX, and the flags of that; by registers 8
// and 9.
func advance(lanes reg.Register, n, ptr, step, left, shift int) {
	for i := 0; i < n/8; i++ {
		VMOVDQU64(m(lanes, step+64*i), z(8))
		if shift > 0 {
			VPSLLQ(U8(shift), z(8), z(8))
		}
		VPADDQ(m(lanes, ptr+64*i), z(8), z(8))
		VMOVDQU64(z(8), m(lanes, ptr+64*i))
	}
	VPTERNLOGD(U8(0xff), z(9), z(9), z(9)) // -1
	if shift > 0 {
		VPSLLD(U8(shift), z(9), z(9))
	}
	for i := n/16 - 1; i >= 0; i-- {
		VPADDD(m(lanes, left+64*i), z(9), z(8))
		VMOVDQU32(z(8), m(lanes, left+64*i))
		VPTESTNMD(z(8), z(8), reg.K4)
		if i == n/16-1 {
			KMOVW(reg.K4, reg.EAX)
		} else {
			SHLL(Imm(16), reg.EAX)
			KMOVW(reg.K4, reg.EDX)
			ORL(reg.EDX, reg.EAX)
		}
	}
	TESTL(reg.EAX, reg.EAX)
}

// invert writes the round keys of the equivalent inverse cipher (FIPS 197 section
// 5.3.5).
func invert() {
	TEXT("invert", NOSPLIT, "func(dec, enc *byte, rounds int)")
	Pragma("noescape")
	Doc("invert writes the round keys of the equivalent inverse cipher (FIPS 197 section 5.3.5).")
	Load(Param("dec"), reg.RDI)
	Load(Param("enc"), reg.RSI)
	Load(Param("rounds"), reg.RCX)
	VMOVDQU(m(reg.RSI, 0), reg.X0)
	SHLQ(Imm(4), reg.RCX)
	VMOVDQU(reg.X0, Mem{Base: reg.RDI, Index: reg.RCX, Scale: 1})
	VMOVDQU(Mem{Base: reg.RSI, Index: reg.RCX, Scale: 1}, reg.X0)
	VMOVDQU(reg.X0, m(reg.RDI, 0))
	Label("next")
	ADDQ(Imm(16), reg.RDI)
	SUBQ(Imm(16), reg.RCX)
	JEQ(LabelRef("done"))
	VAESIMC(Mem{Base: reg.RSI, Index: reg.RCX, Scale: 1}, reg.X0)
	VMOVDQU(reg.X0, m(reg.RDI, 0))
	JMP(LabelRef("next"))
	Label("done")
	VPXOR(reg.X0, reg.X0, reg.X0)
	RET()
}

func features() {
	TEXT("features", NOSPLIT, "func() uint32")
	Doc("features is EBX of CPUID's leaf 7: bit 29 is the SHA extensions.")
	XORL(reg.ECX, reg.ECX)
	MOVL(U32(7), reg.EAX)
	CPUID()
	Store(reg.EBX, ReturnIndex(0))
	RET()
}

func main() {
	ConstraintExpr("!purego")
	consts()
	sha16()
	cbc16()
	decrypt512()
	sha2()
	cbc8()
	decrypt128()
	invert()
	features()
	Generate()
}
