package tests

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/bcrypt"
)

// cmdRegistry starts Debian's docker-registry on a free port of loopback: registry NAME [secure]. $NAME is its host:port and $NAME_DATA
// its directory. A secure one has TLS (its certificate authority is the file $NAME_CERTS/ca.crt) and lets alice in with the password "s3cret".
func cmdRegistry(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 || len(args) == 2 && args[1] != "secure" || len(args) > 2 {
		ts.Fatalf("usage: registry NAME [secure]")
	}
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		skip(ts, "docker-registry is not installed")
	}
	name, dir, secure := args[0], ts.MkAbs("registry-"+args[0]), len(args) == 2
	ts.Check(os.MkdirAll(filepath.Join(dir, "certs"), 0o755))
	port := freePort(ts)
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s/data}, delete: {enabled: true}}\nhttp:\n  addr: localhost:%d\n", dir, port)
	if secure {
		ts.Check(writeCertificates(filepath.Join(dir, "certs")))
		hash, hashErr := bcrypt.GenerateFromPassword([]byte("s3cret"), bcrypt.MinCost)
		ts.Check(hashErr)
		ts.Check(os.WriteFile(filepath.Join(dir, "htpasswd"), fmt.Appendf(nil, "alice:%s\n", hash), 0o644))
		config += fmt.Sprintf("  tls: {certificate: %s/certs/server.pem, key: %s/certs/server.key}\nauth: {htpasswd: {realm: test, path: %s/htpasswd}}\n", dir, dir, dir)
	}
	ts.Check(os.WriteFile(filepath.Join(dir, "config.yml"), []byte(config), 0o644))
	log, err := os.Create(filepath.Join(dir, "log"))
	ts.Check(err)
	cmd := exec.Command(program, "serve", filepath.Join(dir, "config.yml"))
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, append(environment(ts), "OTEL_TRACES_EXPORTER=none")
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	address := fmt.Sprintf("localhost:%d", port)
	waitFor(ts, address)
	ts.Setenv(name, address)
	ts.Setenv(name+"_DATA", filepath.Join(dir, "data"))
	ts.Setenv(name+"_CERTS", filepath.Join(dir, "certs", "ca"))
}

func freePort(ts *testscript.TestScript) int {
	l, err := net.Listen("tcp", "localhost:0")
	ts.Check(err)
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func waitFor(ts *testscript.TestScript, address string) {
	for range 200 {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	ts.Fatalf("the registry on %s does not answer", address)
}

// writeCertificates makes an authority (ca/ca.crt) and a server's certificate for localhost.
func writeCertificates(dir string) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, server, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err = os.MkdirAll(filepath.Join(dir, "ca"), 0o755); err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"ca/ca.crt":  {Type: "CERTIFICATE", Bytes: caDER},
		"server.pem": {Type: "CERTIFICATE", Bytes: der},
		"server.key": {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err = os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	_, err = tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	return err
}
