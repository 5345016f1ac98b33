package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Account is a ServiceAccount, which a VM is known by.
type Account struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// String is NAMESPACE/NAME.
func (a Account) String() string { return a.Namespace + "/" + a.Name }

// Check reports what no ServiceAccount can be named.
func (a Account) Check() error {
	if problems := validation.IsDNS1123Label(a.Namespace); len(problems) > 0 {
		return fmt.Errorf("namespace %q: %s", a.Namespace, problems[0])
	}
	if problems := validation.IsDNS1123Subdomain(a.Name); len(problems) > 0 {
		return fmt.Errorf("service account %q: %s", a.Name, problems[0])
	}
	return nil
}

// NoAccount is the error that a ServiceAccount is not there.
type NoAccount struct{ Account Account }

// Error implements error. It names the command that makes the account.
func (e NoAccount) Error() string {
	return fmt.Sprintf("ServiceAccount %s does not exist; make it with: kubectl create serviceaccount %s --namespace %s",
		e.Account, e.Account.Name, e.Account.Namespace)
}

// CreateAccount makes a ServiceAccount where it is not there yet, and reports whether it did.
func (c *Cluster) CreateAccount(ctx context.Context, account Account) (bool, error) {
	object := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: account.Namespace, Name: account.Name}}
	_, err := c.core.ServiceAccounts(account.Namespace).Create(ctx, object, metav1.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("create ServiceAccount %s: %w", account, err)
	}
	return true, nil
}

// CheckAccount reports whether a ServiceAccount is there, with NoAccount if not.
func (c *Cluster) CheckAccount(ctx context.Context, account Account) error {
	_, err := c.core.ServiceAccounts(account.Namespace).Get(ctx, account.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return NoAccount{account}
	case err != nil:
		return fmt.Errorf("look for ServiceAccount %s: %w", account, err)
	}
	return nil
}

// Bounds of the time that a token is asked for, which are those of the API server.
const (
	LeastDuration = 10 * time.Minute
	MostDuration  = (1<<32 - 1) * time.Second
)

// RequestToken has the API server issue a token of an account for an audience. The API server may make its life shorter
// or longer than duration: Expires says what it is. An account that is not there is NoAccount.
func (c *Cluster) RequestToken(ctx context.Context, account Account, audience string, duration time.Duration) (Token, error) {
	seconds := int64(duration / time.Second)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}, ExpirationSeconds: &seconds}}
	issued, err := c.core.ServiceAccounts(account.Namespace).CreateToken(ctx, account.Name, request, metav1.CreateOptions{})
	if apierrors.IsNotFound(err) {
		return Token{}, NoAccount{account}
	}
	if err == nil && issued.Status.Token == "" {
		err = errors.New("the API server answered without one")
	}
	if err != nil {
		return Token{}, fmt.Errorf("request a token of ServiceAccount %s: %w", account, err)
	}
	return Token{secret: issued.Status.Token, Expires: issued.Status.ExpirationTimestamp.Time}, nil
}
