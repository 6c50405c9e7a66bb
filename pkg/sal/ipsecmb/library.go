//go:build linux && amd64

package ipsecmb

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/ebitengine/purego"

	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// soName is the library's file, by its binary interface.
const soName = "libIPSec_MB.so.1"

// library is what is called of libipsec-mb. Most of it are functions that a manager
// (IMB_MGR) points to, those for this processor.
type library struct {
	version string // as the library says it
	arch    string // the instructions that it has chosen

	managerSize  uintptr
	setPointers  uintptr // imb_set_pointers_mb_mgr
	initAuto     uintptr // init_mb_mgr_auto
	expand       map[int]uintptr
	gcmPre       map[int]uintptr
	oneBlock     map[sal.Integrity]uintptr
	nextBurst    uintptr // get_next_burst
	submitBurst  uintptr
	flushBurst   uintptr
	firstManager *mem.Region // from which the pointers were read
}

// The structures of version 1.3, the one that is known here: offsets of pointers
// in IMB_MGR, of fields in IMB_JOB, constants. They are private to the library but
// for its header, which promises to add only behind them; that is not relied on.
const (
	knownMajor, knownMinor = 1, 3

	mgrArch        = 56
	mgrKeyExp128   = 112
	mgrKeyExp192   = 120
	mgrKeyExp256   = 128
	mgrSHA1Block   = 160
	mgrSHA256Block = 176
	mgrSHA384Block = 184
	mgrSHA512Block = 192
	mgrGCM128Pre   = 448
	mgrGCM192Pre   = 456
	mgrGCM256Pre   = 464
	mgrNextBurst   = 952
	mgrSubmitBurst = 960
	mgrFlushBurst  = 976

	jobEncKeys      = 0
	jobDecKeys      = 8
	jobKeyLen       = 16
	jobSrc          = 24
	jobDst          = 32
	jobCipherOff    = 40
	jobCipherLen    = 48
	jobHashOff      = 56
	jobHashLen      = 64
	jobIV           = 72
	jobIVLen        = 80
	jobTag          = 88
	jobTagLen       = 96
	jobAAD          = 104 // of an AEAD; for HMAC the inner state
	jobAADLen       = 112 // of an AEAD; for HMAC the outer state
	jobStatus       = 128 // 4 bytes, as the four after it
	jobCipher       = 132
	jobDirection    = 136
	jobHash         = 140
	jobOrder        = 144
	jobUser         = 152
	jobSGLState     = 184
	statusCompleted = 3

	cipherCBC, cipherCTR, cipherNull, cipherGCM, cipherChaCha = 1, 2, 3, 5, 19

	hashSHA1, hashSHA256, hashSHA384, hashSHA512, hashGMAC, hashPoly1305 = 1, 3, 4, 5, 9, 29

	encrypt, decrypt       = 1, 2
	cipherHash, hashCipher = 1, 2

	maxBurst     = 128  // IMB_MAX_BURST_SIZE
	gcmKeyLen    = 1008 // struct gcm_key_data
	aesKeyLen    = 16 * 15
	managerAlign = 64
)

// arches are the library's names for what it chose (IMB_ARCH).
var arches = map[uint32]string{1: "no AES-NI", 2: "SSE", 3: "AVX", 4: "AVX2", 5: "AVX-512"}

// load finds the library and what of it is called; once for all engines.
var load = sync.OnceValues(func() (*library, error) {
	h, err := purego.Dlopen(soName, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", soName, errors.Join(os.ErrNotExist, err))
	}
	l := &library{}
	var size, version, versionStr uintptr
	for name, to := range map[string]*uintptr{
		"imb_get_mb_mgr_size": &size, "imb_get_version": &version, "imb_get_version_str": &versionStr,
		"imb_set_pointers_mb_mgr": &l.setPointers, "init_mb_mgr_auto": &l.initAuto,
	} {
		if *to, err = purego.Dlsym(h, name); err != nil {
			return nil, fmt.Errorf("%s has no %s: %w", soName, name, sal.ErrNotSupported)
		}
	}
	v := call(version)
	if major, minor := v>>16&0xff, v>>8&0xff; major != knownMajor || minor != knownMinor {
		return nil, fmt.Errorf("%s is of version %d.%d, and this is built for %d.%d: %w", soName, major, minor, knownMajor, knownMinor, sal.ErrNotSupported)
	}
	l.version = text(call(versionStr))
	l.managerSize = call(size)
	if l.firstManager, err = l.manager(); err != nil {
		return nil, err
	}
	m := l.firstManager.Ptr()
	f := func(off uintptr) uintptr { return uintptr(mem.Load64(m, off)) }
	l.arch = arches[mem.Load32(m, mgrArch)]
	l.expand = map[int]uintptr{16: f(mgrKeyExp128), 24: f(mgrKeyExp192), 32: f(mgrKeyExp256)}
	l.gcmPre = map[int]uintptr{16: f(mgrGCM128Pre), 24: f(mgrGCM192Pre), 32: f(mgrGCM256Pre)}
	l.oneBlock = map[sal.Integrity]uintptr{sal.HMACSHA1_96: f(mgrSHA1Block), sal.HMACSHA2_256_128: f(mgrSHA256Block),
		sal.HMACSHA2_384_192: f(mgrSHA384Block), sal.HMACSHA2_512_256: f(mgrSHA512Block)}
	l.nextBurst, l.submitBurst, l.flushBurst = f(mgrNextBurst), f(mgrSubmitBurst), f(mgrFlushBurst)
	return l, nil
})

// manager makes the library's state of one queue, in memory that is kept out of
// core files. Whoever calls it unmaps it, which wipes it.
func (l *library) manager() (*mem.Region, error) {
	r, err := mem.MapSecret(int(l.managerSize), mem.Options{SmallPages: true})
	if err != nil {
		return nil, fmt.Errorf("memory for the library: %v: %w", err, sal.ErrFull)
	}
	var arch uint32
	a, err := mem.Map(managerAlign, mem.Options{SmallPages: true})
	if err != nil {
		_ = r.Unmap()
		return nil, fmt.Errorf("memory for the library: %v: %w", err, sal.ErrFull)
	}
	defer func() { _ = a.Unmap() }()
	if call(l.setPointers, r.Addr(), 0, 1) != r.Addr() {
		_ = r.Unmap()
		return nil, fmt.Errorf("%s refuses its memory: %w", soName, sal.ErrNotSupported)
	}
	call(l.initAuto, r.Addr(), a.Addr())
	if arch = mem.Load32(a.Ptr(), 0); arch < 2 {
		_ = r.Unmap()
		return nil, fmt.Errorf("%s has nothing for this processor: %w", soName, sal.ErrNotSupported)
	}
	return r, nil
}

// call calls a function of the library. What the arguments point at does not move:
// it is mapped memory, or part of an object that is kept on the heap.
func call(f uintptr, args ...uintptr) uintptr {
	r, _, _ := purego.SyscallN(f, args...)
	return r
}

// text is a C string.
func text(p uintptr) string {
	if p == 0 {
		return ""
	}
	var b []byte
	for i := uintptr(0); i < 100; i++ {
		c := mem.Load8(mem.At(p), i)
		if c == 0 {
			break
		}
		b = append(b, c)
	}
	return string(b)
}
