package ingress

import (
	"crypto/tls"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// certificate returns what a Secret holds, or why it holds no certificate.
func (b *builder) certificate(name types.NamespacedName) (*Certificate, *fault) {
	s := b.secrets[name]
	if s == nil {
		return nil, &fault{"secretName", ReasonNotFound, fmt.Sprintf("secret %s of type %s does not exist", name, corev1.SecretTypeTLS)}
	}
	pair, err := b.keyPair(s)
	if err != nil {
		return nil, &fault{"secretName", ReasonInvalid, fmt.Sprintf("secret %s: %v", name, err)}
	}
	return &Certificate{name, pair}, nil
}

// KeyPair returns the certificate and key of a Secret.
// Errors: one of them is missing or broken, or they are no pair.
func KeyPair(s *corev1.Secret) (*tls.Certificate, error) {
	for _, key := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		if len(s.Data[key]) == 0 {
			return nil, errors.New(key + ": is empty (PEM)")
		}
	}
	pair, err := tls.X509KeyPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", corev1.TLSCertKey, corev1.TLSPrivateKeyKey, err)
	}
	return &pair, nil
}

// covers reports whether a certificate is for a host of a table.
func (c *Certificate) covers(host string) bool {
	if c.TLS.Leaf == nil {
		return true
	}
	if rest, ok := wildcard(host); ok {
		host = "any." + rest
	}
	return c.TLS.Leaf.VerifyHostname(host) == nil
}
