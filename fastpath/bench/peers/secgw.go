package peers

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const examples = "/usr/share/dpdk/examples"

// sizes are of the inner IP packet.
var sizes = []int{64, 512, 1420}

// IPsecSecGW times DPDK's example gateway: one core receives, works and sends; one
// SA, AES-128-GCM by aesni_gcm, the library's own ESP (-l), no anti-replay. Packets come
// from a capture, replayed for ever, and go to a device that drops them. What that
// costs alone is timed with testpmd in the same way and taken off.
func IPsecSecGW(ctx context.Context, dir string, core int) ([]Result, error) {
	if err := mayRun(); err != nil {
		return nil, err
	}
	testpmd, err := program("dpdk-testpmd")
	if err != nil {
		return nil, err
	}
	for _, l := range []string{"librte_crypto_ipsec_mb", "librte_net_pcap", "librte_net_null"} {
		if !library(l) {
			return nil, absent("no %s", l)
		}
	}
	main, err := another(core)
	if err != nil {
		return nil, err
	}
	gw, err := buildSecGW(ctx, dir)
	if err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"out.cfg": configOut, "in.cfg": configIn} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	var all []Result
	for _, n := range sizes {
		plain, esp := filepath.Join(dir, fmt.Sprintf("plain-%d.pcap", n)), filepath.Join(dir, fmt.Sprintf("esp-%d.pcap", n))
		if err := writeCaptures(plain, esp, n); err != nil {
			return nil, err
		}
		source := func(file string) string { return "net_pcap0,rx_pcap=" + file + ",infinite_rx=1" }
		prefix := "vrouter-secgw"
		floor, err := rate(ctx, prefix, main, preferred(main, core, testpmd, append(eal(prefix, []int{main, core}, source(plain)), "--", "--forward-mode=io", "--nb-cores=1",
			"--total-num-mbufs=16384", "--port-topology=loop", "-a", "--no-lsc-interrupt", "--stats-period", "1")))
		if err != nil {
			return all, err
		}
		for _, d := range []struct{ what, file, config, unprotected string }{{"encrypt", plain, "out.cfg", "2"}, {"decrypt", esp, "in.cfg", "1"}} {
			ns, err := rate(ctx, prefix, main, preferred(main, core, gw, append(eal(prefix, []int{core}, source(d.file), "net_null0,no-rx=1", "crypto_aesni_gcm0"), "--",
				"-p", "3", "-P", "-u", d.unprotected, "-l", "--mtu", "1600", "-f", filepath.Join(dir, d.config), "--config=(0,0,"+fmt.Sprint(core)+"),(1,0,"+fmt.Sprint(core)+")")))
			if err != nil {
				return all, err
			}
			all = append(all, Result{Peer: "ipsec-secgw", Case: "ESP/" + d.what, Size: n, NS: ns - floor})
		}
	}
	return all, nil
}

// The gateway's configuration: its addresses and keys are those of writeCaptures.
const (
	aesKey = "00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:de:ad:be:ef"

	configOut = `sp ipv4 out esp protect 5 pri 1 dst 198.18.0.0/16 sport 0:65535 dport 0:65535
sa out 5 aead_algo aes-128-gcm aead_key ` + aesKey + ` mode ipv4-tunnel src 172.16.1.5 dst 172.16.2.5
rt ipv4 dst 172.16.2.5/32 port 1
rt ipv4 dst 198.18.0.0/16 port 1
neigh port 0 02:00:00:00:00:11
neigh port 1 02:00:00:00:00:12
sp ipv4 in esp protect 105 pri 1 dst 198.19.0.0/16 sport 0:65535 dport 0:65535
sa in 105 aead_algo aes-128-gcm aead_key ` + aesKey + ` mode ipv4-tunnel src 172.16.2.5 dst 172.16.1.5
`
	configIn = `sp ipv4 in esp protect 105 pri 1 dst 198.18.0.0/16 sport 0:65535 dport 0:65535
sa in 105 aead_algo aes-128-gcm aead_key ` + aesKey + ` mode ipv4-tunnel src 172.16.1.5 dst 172.16.2.5
rt ipv4 dst 198.18.0.0/16 port 1
neigh port 0 02:00:00:00:00:11
neigh port 1 02:00:00:00:00:12
sp ipv4 out esp protect 5 pri 1 dst 198.19.0.0/16 sport 0:65535 dport 0:65535
sa out 5 aead_algo aes-128-gcm aead_key ` + aesKey + ` mode ipv4-tunnel src 172.16.2.5 dst 172.16.1.5
rt ipv4 dst 172.16.1.5/32 port 0
`
)

// buildSecGW builds the example from its packaged source. The checksums that it wants
// its ports to look at are left out: virtual devices have no such thing.
func buildSecGW(ctx context.Context, dir string) (string, error) {
	from := filepath.Join(examples, "ipsec-secgw")
	if !exists(from) {
		return "", absent("no %s", from)
	}
	pc, err := program("pkg-config")
	if err != nil {
		return "", err
	}
	var flags [2][]string
	for i, what := range []string{"--cflags", "--libs"} {
		out, err := output(ctx, pc, what, "libdpdk")
		if err != nil {
			return "", absent("no libdpdk to build with: %v", err)
		}
		flags[i] = strings.Fields(out)
	}
	src := filepath.Join(dir, "src")
	if err := os.CopyFS(src, os.DirFS(from)); err != nil {
		return "", err
	}
	file := filepath.Join(src, "ipsec-secgw.c")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	const offload = "= RTE_ETH_RX_OFFLOAD_CHECKSUM"
	if !bytes.Contains(text, []byte(offload)) {
		return "", fmt.Errorf("ipsec-secgw: its source has changed: no %q", offload)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte(offload), []byte("= 0"), 1), 0o600); err != nil {
		return "", err
	}
	make, err := os.ReadFile(filepath.Join(src, "Makefile"))
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "ipsec-secgw")
	args := slices.Concat([]string{"-w", "-DALLOW_EXPERIMENTAL_API", "-I" + filepath.Join(examples, "common")}, flags[0], sources(string(make)), flags[1])
	return bin, compile(ctx, src, bin, args...)
}

// sources are the files that a makefile of DPDK's examples names.
func sources(makefile string) (l []string) {
	for line := range strings.Lines(makefile) {
		if f := strings.Fields(line); len(f) >= 3 && f[0] == "SRCS-y" {
			l = append(l, f[2:]...)
		}
	}
	return l
}

// rate runs a program of DPDK and gives what a packet takes that leaves it, in
// nanoseconds: the best of some windows of its counters, which are read on core reader.
func rate(ctx context.Context, prefix string, reader int, command []string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	var log bytes.Buffer
	c.Stdout, c.Stderr = &log, &log
	stdin, err := c.StdinPipe() // testpmd ends when there is no more
	if err != nil {
		return 0, err
	}
	defer stdin.Close()
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGINT) }
	c.WaitDelay = 2 * time.Second
	if err := c.Start(); err != nil {
		return 0, err
	}
	ended := make(chan struct{})
	go func() { _ = c.Wait(); close(ended) }()
	var best float64
	if e := elsewhere(reader, func() { best, err = watch(ctx, ended, socketOf(prefix)) }); e != nil {
		err = e
	}
	cancel()
	<-ended
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", filepath.Base(command[len(preferred(0, 0, "", nil))-1]), err, lastLines(log.String(), 3))
	}
	return best, nil
}
