//go:build linux

// Package afalg is an engine that has the Linux kernel do the work, through sockets
// of family AF_ALG: its software, or the device whose driver offers the algorithm
// (QAT, CAAM and others). Which that is the kernel decides, by priority.
//
//	afalg.go    the engine, and what the kernel calls the algorithms
//	records.go  an SA: a socket that has the key, and one for each queue
//	queue.go    the packet path
//
// Each packet costs two system calls, which is much more than AES in software does
// for small packets. It pays for algorithms that a device does and this processor
// does not. The calling core waits for the kernel; the pool engine has cores of its
// own for that.
//
// Keys are the kernel's once an SA is installed: nothing of them stays in this
// process.
package afalg

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/session"
)

const (
	maxQueues = 16
	depth     = 4 * sal.Burst
	// maxSAs is for memory; file descriptors allow fewer, as a rule (room).
	maxSAs = 4096
)

// Engine implements sal.Device.
type Engine struct {
	session.Host
	caps sal.Caps
}

// New asks the kernel what it has, and makes an engine of it. An error says why
// there is none: the kernel has no such sockets, or no algorithm of ours.
func New(name string) (*Engine, error) {
	e := &Engine{Host: session.Host{Name: name, Queues: maxQueues, MaxSAs: room()}, caps: sal.Caps{
		Modes: []sal.Mode{sal.ModeCrypto}, Sync: true, ESN: true, MaxSAs: room(), Queues: maxQueues, Groups: true, QueueDepth: depth,
	}}
	fd, err := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("crypto sockets of the kernel: %w: %w", sal.ErrNotSupported, os.NewSyscallError("socket", err))
	}
	_ = unix.Close(fd)
	for _, i := range []sal.Integrity{sal.HMACSHA1_96, sal.HMACSHA2_256_128, sal.HMACSHA2_384_192, sal.HMACSHA2_512_256} {
		if has(sal.AESCBC, i, false) && has(sal.AESCBC, i, true) {
			e.caps.Integrity = append(e.caps.Integrity, i)
		}
	}
	for _, a := range []sal.Algorithm{sal.Null, sal.AESCBC, sal.AESCTR, sal.AESGCM16, sal.ChaCha20Poly1305} {
		s, _ := a.Shape()
		i := sal.NoIntegrity
		if !s.AEAD {
			if len(e.caps.Integrity) == 0 {
				continue
			}
			i = e.caps.Integrity[0]
		}
		if !has(a, i, false) || !has(a, i, true) {
			continue
		}
		e.caps.Algorithms = append(e.caps.Algorithms, sal.AlgorithmCaps{Algorithm: a, KeyBits: s.KeyBits, IVLen: s.IV, ICVLen: s.ICV, Align: s.Align})
	}
	if len(e.caps.Algorithms) == 0 {
		return nil, fmt.Errorf("crypto sockets of the kernel: it has no algorithm of ESP: %w", sal.ErrNotSupported)
	}
	e.Records = func(s *session.Session) (session.Records, error) { return &records{e: e, s: s}, nil }
	return e, nil
}

// room is for how many SAs this process may have sockets: one for each, and one more
// for each queue that uses it, as a rule one. Others want descriptors too.
func room() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur > 4*maxSAs {
		return maxSAs
	}
	return max(1, int(l.Cur)/3)
}

// Info describes the engine.
func (e *Engine) Info() sal.DeviceInfo {
	return e.Fill(sal.DeviceInfo{Driver: "af-alg", Kind: sal.LookAside, ISA: "the kernel's", NUMANode: -1})
}

// Caps lists what the engine can do.
func (e *Engine) Caps() sal.Caps { return e.caps }

// hashNames are the kernel's names of what HMAC uses.
var hashNames = map[sal.Integrity]string{sal.HMACSHA1_96: "hmac(sha1)", sal.HMACSHA2_256_128: "hmac(sha256)",
	sal.HMACSHA2_384_192: "hmac(sha384)", sal.HMACSHA2_512_256: "hmac(sha512)"}

// nameOf is the kernel's name of an algorithm with its integrity algorithm. Those
// of the AEADs are for ESP: the IV is part of the associated data that they are
// given, and not of what they protect twice (the kernel's crypto/gcm.c and
// crypto/chacha20poly1305.c).
func nameOf(a sal.Algorithm, i sal.Integrity, esn bool) string {
	auth := "authenc"
	if esn {
		auth = "authencesn"
	}
	cipher := map[sal.Algorithm]string{sal.Null: "ecb(cipher_null)", sal.AESCBC: "cbc(aes)", sal.AESCTR: "rfc3686(ctr(aes))"}[a]
	switch a {
	case sal.AESGCM16:
		return "rfc4106(gcm(aes))"
	case sal.ChaCha20Poly1305:
		return "rfc7539esp(chacha20,poly1305)"
	}
	return auth + "(" + hashNames[i] + "," + cipher + ")"
}

// has tells whether the kernel has it.
func has(a sal.Algorithm, i sal.Integrity, esn bool) bool {
	fd, err := open(nameOf(a, i, esn))
	if err == nil {
		_ = unix.Close(fd)
	}
	return err == nil
}

// open makes a socket of an algorithm.
func open(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrALG{Type: "aead", Name: name}); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// keyOf is an SA's keys as the kernel takes them: cipher key and salt; or a netlink
// attribute that says how long the cipher's is, the key of integrity, the cipher's
// (the kernel's include/crypto/authenc.h). The caller wipes it.
func keyOf(c *sal.SAConfig) []byte {
	if c.Integrity == sal.NoIntegrity {
		return append([]byte(nil), c.Key...)
	}
	k := make([]byte, 8, 8+len(c.IntegrityKey)+len(c.Key))
	binary.NativeEndian.PutUint16(k, 8)
	binary.NativeEndian.PutUint16(k[2:], 1) // CRYPTO_AUTHENC_KEYA_PARAM
	binary.BigEndian.PutUint32(k[4:], uint32(len(c.Key)))
	return append(append(k, c.IntegrityKey...), c.Key...)
}
