// Times libipsec-mb as BenchmarkPeers wants it: 256 packets in buffers of 2 KiB,
// worked on in place, over and over; the best of slices of 4096 packets. Prints a
// line for each case:
//
//	algorithm operation bytes interface ns-per-packet
//
// burst is the job interface, 32 jobs a call; direct is a call for each packet with
// the key already expanded, which only AES-GCM has.
#include <intel-ipsec-mb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PACKETS = 256, STRIDE = 2048, BURST = 32, SLICE = 4096 };

static IMB_MGR *m;
static uint8_t *bufs;
static int done;           // packets that came back
static volatile int wrong; // tags: compared, as a receiver has to, though they are of other texts

static void fail(const char *what) {
  fprintf(stderr, "imb: %s\n", what);
  exit(1);
}

static uint8_t *packet(int i) { return bufs + (size_t)(i % PACKETS) * STRIDE + 256; }

// AES-128-GCM, 8 bytes of additional data, a tag of 16 bytes behind the text.
static struct gcm_key_data gcm;
static uint8_t nonce[BURST][16], aad[16], tags[BURST][32];

static void gcm_seal(int i, int n) {
  struct gcm_context_data c;
  uint8_t *p = packet(i);
  nonce[0][4]++;
  IMB_AES128_GCM_ENC(m, &gcm, &c, p, p, n, nonce[0], aad, 8, p + n, 16);
  done++;
}

static void gcm_open(int i, int n) {
  struct gcm_context_data c;
  uint8_t *p = packet(i);
  nonce[0][4]++;
  IMB_AES128_GCM_DEC(m, &gcm, &c, p, p, n, nonce[0], aad, 8, tags[0], 16);
  wrong += memcmp(tags[0], p + n, 16) != 0;
  done++;
}

// AES-128-CBC with HMAC-SHA-256: SPI, sequence number and IV before the text.
static uint8_t enc[16 * 15] __attribute__((aligned(16))), dec[16 * 15] __attribute__((aligned(16)));
static uint8_t inner[32] __attribute__((aligned(64))), outer[32] __attribute__((aligned(64)));
static int is_cbc, opens;

static void fill(IMB_JOB *j, int k, int i, int n) {
  uint8_t *p = packet(i);
  j->cipher_direction = opens ? IMB_DIR_DECRYPT : IMB_DIR_ENCRYPT;
  j->chain_order = opens ? IMB_ORDER_HASH_CIPHER : IMB_ORDER_CIPHER_HASH;
  j->key_len_in_bytes = 16;
  j->dst = p;
  j->msg_len_to_cipher_in_bytes = n;
  j->auth_tag_output = opens ? tags[k] : p + n;
  j->auth_tag_output_len_in_bytes = 16;
  j->user_data = p + n;
  if (is_cbc) {
    j->cipher_mode = IMB_CIPHER_CBC;
    j->hash_alg = IMB_AUTH_HMAC_SHA_256;
    j->enc_keys = enc;
    j->dec_keys = dec;
    j->src = p - 24;
    j->cipher_start_src_offset_in_bytes = 24;
    j->hash_start_src_offset_in_bytes = 0;
    j->msg_len_to_hash_in_bytes = n + 24;
    j->iv = p - 16;
    j->iv_len_in_bytes = 16;
    j->u.HMAC._hashed_auth_key_xor_ipad = inner;
    j->u.HMAC._hashed_auth_key_xor_opad = outer;
    return;
  }
  j->cipher_mode = IMB_CIPHER_GCM;
  j->hash_alg = IMB_AUTH_AES_GMAC;
  j->enc_keys = j->dec_keys = &gcm;
  j->src = p;
  j->cipher_start_src_offset_in_bytes = 0;
  j->hash_start_src_offset_in_bytes = 0;
  j->msg_len_to_hash_in_bytes = n;
  j->iv = nonce[k];
  j->iv_len_in_bytes = 12;
  j->u.GCM.aad = aad;
  j->u.GCM.aad_len_in_bytes = 8;
}

static void back(IMB_JOB *j) {
  if (j->status != IMB_STATUS_COMPLETED) fail("a job did not complete");
  if (opens) wrong += memcmp(j->auth_tag_output, j->user_data, 16) != 0;
  done++;
}

static void burst(int i, int n) {
  static IMB_JOB *jobs[BURST];
  int want = BURST;
  while (want > 0) {
    int got = IMB_GET_NEXT_BURST(m, want, jobs);
    if (got == 0) { // the queue is full
      int rest = IMB_FLUSH_BURST(m, BURST, jobs);
      for (int k = 0; k < rest; k++) back(jobs[k]);
      continue;
    }
    for (int k = 0; k < got; k++) fill(jobs[k], k, i + k, n);
    int out = IMB_SUBMIT_BURST_NOCHECK(m, got, jobs);
    for (int k = 0; k < out; k++) back(jobs[k]);
    i += got;
    want -= got;
  }
}

static void flush(void) {
  static IMB_JOB *jobs[BURST];
  for (int n; (n = IMB_FLUSH_BURST(m, BURST, jobs)) > 0;)
    for (int k = 0; k < n; k++) back(jobs[k]);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void manager(void) {
  IMB_ARCH arch;
  if (m) free_mb_mgr(m);
  if (!(m = alloc_mb_mgr(0))) fail("no manager");
  init_mb_mgr_auto(m, &arch);
}

// run times one case with a manager of its own: what is still in its queue at the end
// is forgotten with it, since 1.3 flushes more than there is where its ring begins anew.
static void run(const char *what, const char *how, void (*f)(int, int), int per, int n) {
  double best = 1e9, end = now() + 0.25;
  int sent = 0;
  manager();
  done = 0;
  do {
    double t = now();
    for (int i = 0; i < SLICE; i += per) f(i, n);
    t = (now() - t) * 1e9 / SLICE;
    if (t < best) best = t;
    sent += SLICE;
  } while (now() < end);
  if (done > sent || done < sent - IMB_MAX_JOBS) fail("packets did not come back");
  printf("%s %s %d %s %.2f\n", what, opens ? "open" : "seal", n, how, best);
  fflush(stdout);
}

// check has a burst opened that was sealed: what is timed has to work.
static void check(int n) {
  static uint8_t was[BURST][STRIDE];
  for (int k = 0; k < BURST; k++) {
    for (int b = -24; b < n; b++) packet(k)[b] = (uint8_t)(k + b);
    memcpy(was[k], packet(k), n);
  }
  for (opens = 0; opens < 2; opens++) {
    burst(0, n);
    flush();
    for (int k = 0; k < BURST; k++) {
      if ((memcmp(was[k], packet(k), n) == 0) != opens) fail("the text is not what it has to be");
      if (opens && memcmp(tags[k], packet(k) + n, 16)) fail("a tag is wrong");
    }
  }
  opens = 0;
}

static void hmac_key(uint8_t pad, uint8_t *to) {
  uint8_t block[64];
  memset(block, pad, sizeof block);
  for (int i = 0; i < 32; i++) block[i] ^= (uint8_t)i;
  IMB_SHA256_ONE_BLOCK(m, block, to);
}

int main(void) {
  uint8_t key[16] = {1, 2, 3};
  manager();
  printf("# libipsec-mb %s, %s VAES\n", imb_get_version_str(), m->features & IMB_FEATURE_VAES ? "with" : "without");
  if (!(bufs = aligned_alloc(4096, PACKETS * STRIDE))) fail("no memory");
  memset(bufs, 7, PACKETS * STRIDE);
  IMB_AES128_GCM_PRE(m, key, &gcm);
  IMB_AES_KEYEXP_128(m, key, enc, dec);
  hmac_key(0x36, inner);
  hmac_key(0x5c, outer);
  static const int sizes[2][3] = {{64, 512, 1420}, {64, 512, 1424}};
  for (is_cbc = 0; is_cbc < 2; is_cbc++) {
    for (int s = 0; s < 3; s++) check(sizes[is_cbc][s]);
    for (opens = 0; opens < 2; opens++)
      for (int s = 0; s < 3; s++) {
        int n = sizes[is_cbc][s];
        run(is_cbc ? "cbc-128-sha256" : "gcm-128", "burst", burst, BURST, n);
        if (!is_cbc) run("gcm-128", "direct", opens ? gcm_open : gcm_seal, 1, n);
      }
    opens = 0;
  }
  return 0;
}
