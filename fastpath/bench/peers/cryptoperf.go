package peers

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// CryptoPerf times DPDK's crypto devices aesni_gcm and aesni_mb, which work by
// libipsec-mb on the calling core, with dpdk-test-crypto-perf. Its figures are means:
// the best of thirty short ones is given.
func CryptoPerf(ctx context.Context, core int) ([]Result, error) {
	if err := mayRun(); err != nil {
		return nil, err
	}
	bin, err := program("dpdk-test-crypto-perf")
	if err != nil {
		return nil, err
	}
	if !library("librte_crypto_ipsec_mb") {
		return nil, absent("no librte_crypto_ipsec_mb")
	}
	main, err := another(core)
	if err != nil {
		return nil, err
	}
	var all []Result
	for _, c := range []struct{ dev, what, args string }{
		{"aesni_gcm", "gcm-128/seal", gcmArgs + " --aead-op encrypt"}, {"aesni_gcm", "gcm-128/open", gcmArgs + " --aead-op decrypt"},
		{"aesni_mb", "gcm-128/seal", gcmArgs + " --aead-op encrypt"}, {"aesni_mb", "gcm-128/open", gcmArgs + " --aead-op decrypt"},
		{"aesni_mb", "cbc-128-sha256/seal", cbcArgs}, // open it times only with vectors from a file, one packet
	} {
		sizes := gcmSizes
		if c.args == cbcArgs {
			sizes = cbcSizes
		}
		args := append(eal("vrouter-cperf", []int{main, core}, "crypto_"+c.dev+"0"), "--", "--devtype", "crypto_"+c.dev, "--ptest", "throughput",
			"--buffer-sz", repeated(sizes), "--total-ops", "12000", "--burst-sz", "32", "--pool-sz", "4096", "--csv-friendly", "--silent")
		args = append(args, strings.Fields(c.args)...)
		for range 3 {
			out, err := output(ctx, preferred(main, core, bin, args)...)
			if err != nil {
				return best(all), err
			}
			l, err := parseCryptoPerf(out, "cryptodev-"+c.dev, c.what)
			if err != nil {
				return best(all), err
			}
			all = append(all, l...)
		}
	}
	return best(all), nil
}

const (
	gcmArgs = "--optype aead --aead-algo aes-gcm --aead-key-sz 16 --aead-iv-sz 12 --aead-aad-sz 8 --digest-sz 16"
	cbcArgs = "--optype cipher-then-auth --cipher-algo aes-cbc --cipher-op encrypt --cipher-key-sz 16 --cipher-iv-sz 16 --auth-algo sha2-256-hmac --auth-op generate --auth-key-sz 32 --digest-sz 16"
)

var gcmSizes, cbcSizes = []int{64, 512, 1420}, []int{64, 512, 1424}

// repeated lists each size ten times: so often it is timed, some milliseconds each.
func repeated(sizes []int) string {
	var l []string
	for range 10 {
		for _, n := range sizes {
			l = append(l, strconv.Itoa(n))
		}
	}
	return strings.Join(l, ",")
}

// parseCryptoPerf reads the lines of a run: lcore, bytes, burst, enqueued, dequeued,
// failures of both, millions of operations a second, Gbit/s, cycles.
func parseCryptoPerf(out, peer, what string) (l []Result, err error) {
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSpace(line), ",")
		if len(f) != 10 || strings.HasPrefix(f[0], "#") {
			continue
		}
		n, err := strconv.Atoi(f[1])
		if err != nil {
			return nil, fmt.Errorf("dpdk-test-crypto-perf: %w", err)
		}
		mops, err := positive(f[7])
		if err != nil {
			return nil, fmt.Errorf("dpdk-test-crypto-perf: %w", err)
		}
		if f[3] != f[4] {
			return nil, fmt.Errorf("dpdk-test-crypto-perf: %s operations went in, %s came out", f[3], f[4])
		}
		l = append(l, Result{Peer: peer, Case: what, Size: n, NS: 1e3 / mops})
	}
	if len(l) == 0 {
		return nil, fmt.Errorf("dpdk-test-crypto-perf: no figures in %q", lastLines(out, 2))
	}
	return l, nil
}
