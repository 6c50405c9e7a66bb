package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vrouter/cmd/internal/lab"
)

// TestKernelCrypto runs the conformance suite of engines over the engine of kernel
// sockets (AF_ALG) inside a guest, whose kernel has them whatever this machine's
// has.
func TestKernelCrypto(t *testing.T) {
	needGuest(t)
	bin := filepath.Join(t.TempDir(), "afalgtest")
	build := exec.Command("go", "test", "-c", "-o", bin, "vrouter/pkg/sal/afalg")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	n, err := l.NS("host", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.IP("link add lan type bridge\n link set lan up"); err != nil {
		t.Fatal(err)
	}
	vm, err := n.VM("guest", "lan", bin)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	out, err := vm.Run(6*time.Minute, "AF_ALG=1 "+bin+" -test.v -test.short -test.timeout 5m")
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(out, 6000))
	}
	passed := strings.Count(out, "    --- PASS: TestSuite/")
	t.Logf("%d tests of the suite passed in the guest, %v", passed, time.Since(start).Round(time.Second))
	for _, want := range []string{"aes-gcm-16", "aes-cbc", "aes-ctr", "null", "chacha20-poly1305", "hmac-sha1-96 hmac-sha2-256-128 hmac-sha2-384-192 hmac-sha2-512-256"} {
		if !strings.Contains(out, want) {
			t.Errorf("the guest's kernel has no %s", want)
		}
	}
	// It has no bells, as it is done when the call returns, and leaves ESP to its user.
	rest := strings.NewReplacer("--- SKIP: TestSuite/Rings", "", "--- SKIP: TestSuite/Protocol/", "").Replace(out)
	if passed < 32 || strings.Contains(rest, "--- SKIP") {
		t.Errorf("tests were left out:\n%s", tail(out, 6000))
	}
}
