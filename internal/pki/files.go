package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

func encodeCert(raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), nil
}

// read returns the certificate and the key in path.crt and path.key.
func read(path string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(path + ".crt")
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, nil, fmt.Errorf("%s.crt: has no certificate", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s.crt: %w", path, err)
	}
	key, err := readKey(path + ".key")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s.key: is missing, but %s.crt is there", path, path)
	}
	if err != nil {
		return nil, nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, fmt.Errorf("%s.key: is not the key of %s.crt", path, path)
	}
	return cert, key, nil
}

func readKey(file string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s: has no key", file)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

// write puts cert and key into path.crt and path.key. The certificate is
// written last: without it nothing is there.
func write(path string, cert, key []byte) error {
	if err := os.Remove(path + ".crt"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pki: %w", err)
	}
	if err := put(path+".key", key, 0o600); err != nil {
		return err
	}
	return put(path+".crt", cert, 0o644)
}

// put writes a file, all or nothing. Nobody else writes it: see lock.
func put(path string, data []byte, mode fs.FileMode) error {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pki: %w", err)
	}
	w, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	_, err = w.Write(data)
	if err = errors.Join(err, w.Sync(), w.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	return nil
}

// lock keeps everybody else out of a directory's files until unlock.
func lock(dir string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), f.Close())
	}
	return f.Close, nil
}

// EnsureKey makes a pair of keys that sign without a certificate, unless it is
// there: path.key, for its owner only, and path.pub. Kubernetes signs the
// tokens of service accounts by such.
func EnsureKey(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	unlock, err := lock(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	defer unlock()
	private, err := readKey(path + ".key")
	if errors.Is(err, fs.ErrNotExist) {
		if private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return fmt.Errorf("pki: %w", err)
		}
		data, err := encodeKey(private)
		if err != nil {
			return fmt.Errorf("pki: %w", err)
		}
		if err := put(path+".key", data, 0o600); err != nil {
			return err
		}
	} else if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	raw, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	return put(path+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: raw}), 0o644)
}
