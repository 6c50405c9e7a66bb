package gcm

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// Level is a set of instructions that there are kernels for. Contexts and jobs are
// the same at all levels. A higher level is a faster one.
type Level uint8

// The levels.
const (
	// None: no kernels, callers use the standard library.
	None Level = iota
	// AESNI: AES-NI, PCLMULQDQ and AVX, a block at a time (Intel since 2011, AMD
	// since 2011, small cores since 2021).
	AESNI
	// VAES256: VAES, VPCLMULQDQ and AVX2, two blocks at a time, for processors
	// without AVX-512 (Intel since 2021, AMD since 2020).
	VAES256
	// VAES512: VAES, VPCLMULQDQ and AVX-512, four blocks at a time (Intel since
	// 2019, AMD since 2022).
	VAES512
)

var levelNames = [...]string{None: "none", AESNI: "aesni", VAES256: "vaes256", VAES512: "vaes512"}

// String is the level's name as ParseLevel takes it.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("level %d", uint8(l))
}

// ParseLevel finds a level by name.
func ParseLevel(name string) (Level, error) {
	if i := slices.Index(levelNames[:], name); i >= 0 {
		return Level(i), nil
	}
	return None, fmt.Errorf("gcm: %q is none of the levels %s", name, strings.Join(levelNames[:], ", "))
}

// Supported tells whether the processor has the level's instructions, and the
// operating system keeps its registers. It has None.
func (l Level) Supported() bool { return l == None || l <= VAES512 && present[l] }

// Best is the highest level that the processor has; None where there is no kernel
// for it.
func Best() Level { return best }

// Levels are those that have kernels and that the processor has, best first.
func Levels() (all []Level) {
	for l := VAES512; l > None; l-- {
		if present[l] {
			all = append(all, l)
		}
	}
	return all
}

var (
	present = detect()
	best    = func() Level {
		for l := VAES512; l > None; l-- {
			if present[l] {
				return l
			}
		}
		return None
	}()
)

func detect() (has [VAES512 + 1]bool) {
	if !hasAsm {
		return has
	}
	const vaes = 1<<9 | 1<<10 // VAES and VPCLMULQDQ
	x := &cpu.X86
	has[AESNI] = x.HasAES && x.HasPCLMULQDQ && x.HasAVX
	has[VAES256] = has[AESNI] && x.HasAVX2 && features()&vaes == vaes
	has[VAES512] = has[VAES256] && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512DQ && x.HasBMI2
	return has
}

// Seal is Seal by the instructions of level l, which panics when the processor has
// not got them.
func (l Level) Seal(jobs []Job) {
	if len(jobs) == 0 {
		return
	}
	l.check(jobs)
	first := (*byte)(unsafe.Pointer(&jobs[0]))
	switch l {
	case VAES512:
		seal512(first, len(jobs), counters)
	case VAES256:
		seal256(first, len(jobs), counters)
	default:
		seal128(first, len(jobs), counters)
	}
}

// Open is Open by the instructions of level l, which panics when the processor has
// not got them.
func (l Level) Open(jobs []Job) (bad int) {
	if len(jobs) == 0 {
		return 0
	}
	l.check(jobs)
	first := (*byte)(unsafe.Pointer(&jobs[0]))
	switch l {
	case VAES512:
		bad = int(open512(first, len(jobs), counters))
	case VAES256:
		bad = int(open256(first, len(jobs), counters))
	default:
		bad = int(open128(first, len(jobs), counters))
	}
	if bad > 0 {
		for i := range jobs {
			if j := &jobs[i]; j.Bad != 0 {
				clear(unsafe.Slice((*byte)(at(j.Text)), j.Len))
			}
		}
	}
	return bad
}

// check keeps the kernels within the tables: lengths are the caller's, who must
// have looked at them.
func (l Level) check(jobs []Job) {
	if l == None || !l.Supported() {
		panic(ErrUnsupported)
	}
	var most, mostAAD uint32
	for i := range jobs {
		most, mostAAD = max(most, jobs[i].Len), max(mostAAD, jobs[i].AADn)
	}
	if most > MaxLen || mostAAD > MaxAAD {
		panic("gcm: a job is too long")
	}
}
