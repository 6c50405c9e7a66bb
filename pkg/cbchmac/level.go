package cbchmac

import (
	"fmt"

	"golang.org/x/sys/cpu"

	"vrouter/pkg/gcm"
)

// Level is a set of instructions that there are kernels for. Contexts and jobs are
// the same at all levels. A higher level is a faster one.
type Level uint8

// The levels.
const (
	// None: no kernels, callers use the standard library.
	None Level = iota
	// SHANI: AES-NI, AVX and the SHA extensions, eight chains and two hashes at a time
	// (AMD since 2017, small cores of Intel since 2016, others since 2019).
	SHANI
	// VAES512: VAES and AVX-512, sixteen chains and sixteen hashes at a time (Intel
	// since 2019, AMD since 2022). Small bursts go by SHANI there.
	VAES512
)

var levelNames = [...]string{None: "none", SHANI: "shani", VAES512: "vaes512"}

// String is the level's name.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("level %d", uint8(l))
}

// Supported tells whether the processor has the level's instructions, and the
// operating system keeps its registers. It has None.
func (l Level) Supported() bool { return l == None || l <= VAES512 && present[l] }

// Levels are those that have kernels and that the processor has, best first.
func Levels() (all []Level) {
	for l := VAES512; l > None; l-- {
		if present[l] {
			all = append(all, l)
		}
	}
	return all
}

// Within is the highest level that the processor has and that takes no wider registers
// than AES-GCM at level g does: one switch for both.
func Within(g gcm.Level) Level {
	switch {
	case g >= gcm.VAES512 && present[VAES512]:
		return VAES512
	case g >= gcm.AESNI && present[SHANI]:
		return SHANI
	}
	return None
}

var present = detect()

func detect() (has [VAES512 + 1]bool) {
	if !hasAsm {
		return has
	}
	const sha = 1 << 29
	has[SHANI] = gcm.AESNI.Supported() && cpu.X86.HasSSSE3 && cpu.X86.HasSSE41 && features()&sha != 0
	has[VAES512] = has[SHANI] && gcm.VAES512.Supported()
	return has
}
