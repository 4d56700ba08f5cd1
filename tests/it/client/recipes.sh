# What a build server has before it comes to the recipes of docs/PACKAGERS.md: a block stands in place of each line `@NAME@`.
set -euo pipefail
umask 022
cd
mkdir -p ~/.ssh
# /tmp is the machine's, and so are connections there.
mkdir -m 0700 ~/.run
export XDG_RUNTIME_DIR=~/.run
printf '%s\n' "$KEY_TEXT" | install -m 0600 /dev/stdin ~/.ssh/id_ed25519
# What it asks by another port than ssh's.
ssh-keyscan() { echo "signing.example.org $HOST_KEY"; }
say() { echo "== $1" >&2; }

say pins
@pins@
gpgconf --kill all
cmp <(gpg --dearmor < release.asc) "$CERTIFICATE"

say configuration
@configuration@

say "continuous integration"
mkdir -p ci/dist gitlab/dist jenkins/dist
for directory in ci gitlab jenkins; do
    cp release.asc known_hosts $directory
    echo "$directory" > $directory/dist/a.tar.gz
    echo more > $directory/dist/b.tar.gz
done
rm -r ~/.config/sigsh ~/.ssh
(cd ci; @github@)
(cd gitlab; @gitlab@)
mv ~/.ssh/id_ed25519 key
(cd jenkins; ssh-agent bash -c 'ssh-add -q ~/key; @jenkins@')
mv key ~/.ssh/id_ed25519
for directory in ci gitlab jenkins; do
    for file in a b; do gpgv --keyring "$CERTIFICATE" $directory/dist/$file.tar.gz.asc $directory/dist/$file.tar.gz; done
done
cat known_hosts > ~/.ssh/known_hosts
@configuration@

say goreleaser
mkdir dist
echo a > dist/a.tar.gz
echo sums > dist/checksums.txt
(artifact=dist/checksums.txt signature=dist/checksums.txt.sig; @goreleaser@)
gpgv --keyring "$CERTIFICATE" dist/checksums.txt.sig dist/checksums.txt

say "Maven and Gradle"
echo jar > a.jar
# As maven-gpg-plugin and Gradle's signing plugin call it.
mvn() {
    [ "$2" = deploy ]
    echo | "${1#-Dgpg.executable=}" --batch --pinentry-mode loopback --passphrase-fd 0 --armor --detach-sign --batch --no-tty \
        --output a.jar.asc a.jar
}
@maven@
gpgv --keyring "$CERTIFICATE" a.jar.asc a.jar
gradle() {
    printf 'pass\njar\n' | "${1#signing.gnupg.executable=}" --local-user "${2#signing.gnupg.keyName=}" --pinentry-mode=loopback \
        --passphrase-fd 0 --no-tty --batch --detach-sign > a.jar.sig
}
gradle @gradle@
gpgv --keyring "$CERTIFICATE" a.jar.sig a.jar

before=$PATH
@path@
[ "$(command -v gpg)" = ~/.local/sigsh/gpg ]

say "makepkg, repo-add"
mkdir arch
cat > arch/PKGBUILD <<'END'
pkgname=tiny
pkgver=1
pkgrel=1
arch=(any)
package() { install -Dm644 /dev/null "$pkgdir/usr/share/tiny"; }
END
cd arch
@arch@
gpgv --keyring "$CERTIFICATE" tiny-1-1-any.pkg.tar.gz.sig tiny-1-1-any.pkg.tar.gz
cd

say "debsign, dpkg-buildpackage, debsigs"
mkdir -p debian/tiny/debian/source
cd debian/tiny
cat > debian/control <<'END'
Source: tiny
Section: misc
Priority: optional
Maintainer: Test <test@example.org>
Standards-Version: 4.6.2
Rules-Requires-Root: no

Package: tiny
Architecture: all
Description: tiny
 Nothing.
END
printf 'tiny (1) unstable; urgency=low\n\n  * First.\n\n -- Test <test@example.org>  Thu, 01 Jan 2026 00:00:00 +0000\n' > debian/changelog
echo '3.0 (native)' > debian/source/format
cat > debian/rules <<'END'
#!/usr/bin/make -f
clean build build-arch build-indep binary-arch:
binary binary-indep:
	mkdir -p debian/tiny/DEBIAN
	dpkg-gencontrol -ptiny -Pdebian/tiny
	dpkg-deb --root-owner-group --build debian/tiny ..
END
chmod +x debian/rules
dpkg-buildpackage() { command dpkg-buildpackage --no-check-builddeps "$@"; }
dpkg-buildpackage -us -uc -ui
@debian@
cd
sigsh-client verify debian/*.dsc debian/*.buildinfo debian/*.changes
ar t debian/*.deb | grep -x _gpgorigin

say "reprepro, aptly"
mkdir -p archive/conf
cd archive
for sign in !sigsh FINGERPRINT; do
    PATH=$before
    @reprepro@
    [ $sign = !sigsh ] || @path@
    printf 'Codename: stable\nArchitectures: amd64\nComponents: main\nSignWith: %s\n' $sign > conf/distributions
    reprepro includedeb stable ../debian/tiny_1_all.deb
    gpgv --keyring "$CERTIFICATE" dists/stable/InRelease
    gpgv --keyring "$CERTIFICATE" dists/stable/Release.gpg dists/stable/Release
    rm -r db dists pool
done
cd
echo '{"gpgProvider": "gpg", "architectures": ["amd64", "all"]}' > ~/.aptly.conf
aptly repo create -distribution=stable -component=main tiny
aptly repo add tiny debian/tiny_1_all.deb
@aptly@
gpgv --keyring "$CERTIFICATE" ~/.aptly/public/dists/stable/InRelease

say "OSTree, Flatpak"
mkdir -p tree app/files app/export
echo hello | tee tree/hello > app/files/hello
printf '[Application]\nname=org.example.Tiny\nruntime=org.example.Platform/x86_64/1\nsdk=org.example.Sdk/x86_64/1\n' > app/metadata
ostree --repo=repo init --mode=archive
@ostree@
ostree --repo=repo show main | grep 'Found 1 signature'
rm -r repo

PATH=$before
say rpm
mkdir repo
printf '%s: %s\n' Name tiny Version 1 Release 1 Summary tiny License none BuildArch noarch > tiny.spec
printf '%%description\ntiny\n%%files\n' >> tiny.spec
rpmbuild --quiet -bb --define "_topdir $HOME/rpm" tiny.spec
cp rpm/RPMS/noarch/*.rpm repo
@rpm@
gpgv --keyring "$CERTIFICATE" repo/repodata/repomd.xml.asc repo/repodata/repomd.xml
rpmkeys --dbpath ~/rpmdb --import release.asc
rpmkeys --dbpath ~/rpmdb --define '_pkgverify_level all' -K repo/*.rpm

say git
mkdir git
cd git
git init --quiet
git config --global user.name Test
git config --global user.email test@example.org
echo 1 > file
git add file
@git@
cd
/usr/bin/gpg --quiet --batch --import release.asc
git -C git verify-commit HEAD
git -C git verify-tag v1

say "a last look"
sigsh-client sign dist/a.tar.gz
@last@
