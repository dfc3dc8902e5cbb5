#include "client/kube/kubeconfig_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/mem.h"

int kubeconfig_bad(struct error *error, const struct kubeconfig_file *file, size_t line, const char *text)
{
    return error_set(error, EXIT_CODE_KUBECONFIG, -EINVAL, "kubeconfig %s, line %zu: %s", file->path, line, text);
}

/* The file may grow while it is read; a FIFO (<(...)) has no size. */
static int read_all(struct kubeconfig_blob *out, int fd)
{
    out->data = kt_calloc(1, KUBECONFIG_FILE_MAX + 2);
    if (out->data == NULL)
        return -ENOMEM;
    ssize_t n;
    while (out->size <= KUBECONFIG_FILE_MAX &&
           (n = read(fd, out->data + out->size, KUBECONFIG_FILE_MAX + 1 - out->size)) != 0) {
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            out->size += (size_t)n;
    }
    return out->size > KUBECONFIG_FILE_MAX ? -EFBIG : 0;
}

int kubeconfig_read_file(struct kubeconfig_blob *out, const char *path)
{
    *out = (struct kubeconfig_blob){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = read_all(out, fd);
    (void)close(fd);
    if (rc == 0) {
        out->data[out->size] = '\0';
        return 0;
    }
    kt_free_secret(out->data, out->size);
    *out = (struct kubeconfig_blob){0};
    return rc;
}

int kubeconfig_read_token(char **out, const char *path)
{
    static const char blanks[] = " \t\r\n";
    struct kubeconfig_blob file;
    int rc = kubeconfig_read_file(&file, path);
    if (rc != 0)
        return rc;
    const char *text = (const char *)file.data;
    text += strspn(text, blanks);
    size_t size = strlen(text);
    while (size > 0 && strchr(blanks, text[size - 1]) != NULL)
        size--;
    *out = kt_strndup(text, size);
    kt_free_secret(file.data, file.size);
    return *out == NULL ? -ENOMEM : 0;
}

/* Each entry has a name of its own (k8s.io/client-go/tools/clientcmd/api/v1/conversion.go refuses a second one). */
static int check_entry(const struct kubeconfig_file *file, const struct yaml_node *list, const struct yaml_node *entry,
                       struct error *error)
{
    const struct yaml_node *name = yaml_tree_get(entry, "name");
    if (entry->kind != YAML_MAP || name == NULL || name->kind != YAML_TEXT)
        return kubeconfig_bad(error, file, entry->line, "an entry needs a name");
    for (const struct yaml_node *before = list->child; before != entry; before = before->next) {
        if (strcmp(yaml_tree_get(before, "name")->text, name->text) == 0)
            return kubeconfig_bad(error, file, entry->line, "another entry has the same name");
    }
    return 0;
}

static int check_list(const struct kubeconfig_file *file, const char *key, struct error *error)
{
    const struct yaml_node *list = yaml_tree_get(file->root, key);
    if (list == NULL)
        return 0;
    if (list->kind != YAML_LIST)
        return kubeconfig_bad(error, file, list->line, "clusters, users and contexts must be lists");
    size_t count = 0;
    for (const struct yaml_node *entry = list->child; entry != NULL; entry = entry->next) {
        int rc = ++count > KUBECONFIG_ENTRIES_MAX ? kubeconfig_bad(error, file, entry->line, "too many entries")
                                                  : check_entry(file, list, entry, error);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int check_file(const struct kubeconfig_file *file, struct error *error)
{
    static const char *const lists[] = {"clusters", "users", "contexts"};
    const struct yaml_node *kind = yaml_tree_get(file->root, "kind");
    const struct yaml_node *version = yaml_tree_get(file->root, "apiVersion");
    if (file->root == NULL || file->root->is_null)
        return 0;
    if (file->root->kind != YAML_MAP)
        return kubeconfig_bad(error, file, file->root->line, "this is no kubeconfig");
    if (kind != NULL && (kind->kind != YAML_TEXT || strcmp(kind->text, "Config") != 0))
        return kubeconfig_bad(error, file, kind->line, "this is no kubeconfig: its kind is not Config");
    if (version != NULL && (version->kind != YAML_TEXT || (version->size > 0 && strcmp(version->text, "v1") != 0)))
        return kubeconfig_bad(error, file, version->line, "this is no kubeconfig: its apiVersion is not v1");
    for (size_t i = 0; i < KT_ARRAY_LEN(lists); i++) {
        int rc = check_list(file, lists[i], error);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int parse_file(struct kubeconfig_file *file, const struct kubeconfig_blob *text, struct error *error)
{
    struct yaml_problem problem = {0};
    int rc = yaml_tree_parse(&file->root, text->data, text->size, &problem);
    if (rc == -EBADMSG)
        return kubeconfig_bad(error, file, problem.line, problem.text);
    if (rc != 0)
        return error_set(error, EXIT_CODE_FAILED, rc, "no memory");
    return check_file(file, error);
}

/* Takes the file of that name. `must_exist`: else one that is not there is skipped. */
static int take_file(struct kubeconfig_files *files, char *path, bool must_exist, struct error *error)
{
    struct kubeconfig_blob text = {0};
    int rc = path == NULL ? -ENOMEM : kubeconfig_read_file(&text, path);
    if (rc == -ENOMEM || (rc == -ENOENT && !must_exist)) {
        kt_free(path);
        return rc == -ENOENT ? 0 : error_set(error, EXIT_CODE_FAILED, rc, "no memory");
    }
    if (rc != 0) {
        (void)error_set(error, EXIT_CODE_KUBECONFIG, rc == -ENOENT ? rc : -EINVAL, "cannot read kubeconfig %s: %s",
                        path, strerror(-rc));
        kt_free(path);
        return rc == -ENOENT ? rc : -EINVAL;
    }
    struct kubeconfig_file *file = &files->file[files->count++];
    file->path = path;
    rc = parse_file(file, &text, error);
    kt_free_secret(text.data, text.size);
    return rc;
}

static int take_list(struct kubeconfig_files *files, const char *list, struct error *error)
{
    int rc = 0;
    for (const char *at = list; rc == 0 && *at != '\0';) {
        size_t size = strcspn(at, ":");
        if (files->count == KUBECONFIG_FILES_MAX)
            return error_set(error, EXIT_CODE_KUBECONFIG, -EINVAL, "KUBECONFIG names more than %d files",
                             KUBECONFIG_FILES_MAX);
        if (size > 0)
            rc = take_file(files, kt_strndup(at, size), false, error);
        at += size + (at[size] == ':');
    }
    return rc;
}

static bool is_set(const char *text)
{
    return text != NULL && text[0] != '\0';
}

int kubeconfig_files_load(struct kubeconfig_files *files, const struct kubeconfig_choice *choice, struct error *error)
{
    *files = (struct kubeconfig_files){0};
    int rc = 0;
    if (is_set(choice->path))
        rc = take_file(files, kt_strdup(choice->path), true, error);
    else if (is_set(choice->list))
        rc = take_list(files, choice->list, error);
    else if (is_set(choice->home))
        rc = take_file(files, kt_asprintf("%s/.kube/config", choice->home), false, error);
    if (rc != 0 || files->count > 0)
        return rc;
    if (is_set(choice->list))
        return error_set(error, EXIT_CODE_KUBECONFIG, -ENOENT,
                         "no kubeconfig: none of the files in KUBECONFIG (%s) exists; correct it, or give --kubeconfig",
                         choice->list);
    return error_set(error, EXIT_CODE_KUBECONFIG, -ENOENT,
                     "no kubeconfig: %s/.kube/config does not exist; give --kubeconfig, or set KUBECONFIG",
                     is_set(choice->home) ? choice->home : "~");
}

void kubeconfig_files_deinit(struct kubeconfig_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        yaml_tree_free(files->file[i].root);
        kt_free(files->file[i].path);
    }
    files->count = 0;
}
