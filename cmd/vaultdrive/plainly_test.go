package main

import "testing"

// TestPlainly: what the layers of a transport say of a remote becomes one sentence
// that names the thing; anything else stays as it is.
func TestPlainly(t *testing.T) {
	for text, want := range map[string]string{
		`blob store unavailable: Post "http://127.0.0.1:1/v1/auth/challenge": dial tcp 127.0.0.1:1: connect: connection refused`: "the remote at 127.0.0.1:1 cannot be reached: connection refused",
		"try what the remote can do: put vaults/6961/probe/43ac in bucket bkt at 127.0.0.1:1: blob store unavailable (dial tcp 127.0.0.1:1: connect: connection refused)\n" +
			"get vaults/6961/vault in bucket bkt at 127.0.0.1:1: blob store unavailable (dial tcp 127.0.0.1:1: connect: connection refused)": "the remote at 127.0.0.1:1 cannot be reached: connection refused",
		"get vaults/e00a/vault in bucket bkt at no.such.host: blob store unavailable (dial tcp: lookup no.such.host on 10.255.255.53:53: no such host)":                        "the remote cannot be reached: no host no.such.host is known",
		"try what the remote can do: directory /mnt/my disk: blob store unavailable: the blob store is not there (open directory /mnt/my disk: blob not found (no such file))": "the directory /mnt/my disk of the remote is not there",
		"get vaults/e00a/vault in bucket bkt at host: blob store unavailable (read: connection reset by peer)":                                                                 "the bucket bkt at host does not answer: read: connection reset by peer",
		`blob store unavailable: Get "https://host:9/v1/x": EOF`:                                                                                                               "the server at https://host:9 does not answer: EOF",
		"Letters/a: not found\nLetters/b: not found":                                                                                                                           "Letters/a: not found; Letters/b: not found",
		"get vaults/3dcc/vault in bucket bkt at host: the blob store denies access (SignatureDoesNotMatch, status 403)":                                                        "the bucket bkt at host denies access (SignatureDoesNotMatch, status 403)",
		"the remote is full": "the remote is full",
	} {
		if got := plainly(text); got != want {
			t.Errorf("%q\nis said as %q\nnot         %q", text, got, want)
		}
	}
}
