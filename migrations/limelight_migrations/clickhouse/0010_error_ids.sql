-- Ids such as req_a1b2c3d4e5 are no part of what failed: 0008 took `_` and `-` for ends of words in them and kept them, so
-- that each failure was a group of its own. What is stored is made again, so that failures before and after meet.
ALTER TABLE spans MODIFY COLUMN error_fingerprint MATERIALIZED if(status = 'error', lower(hex(sipHash64(
    error_type,
    replaceRegexpAll(replaceRegexpAll(replaceRegexpAll(
        substring(if(error_message != '', error_message, status_message), 1, 2000),
        '"[^"]*"|\'[^\']*\'', '…'),
        '\\b[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}\\b|\\b0x[0-9a-fA-F]+\\b|\\b[A-Za-z]{1,12}[_-]([0-9A-Za-z]*[0-9][0-9A-Za-z]{7,}|[0-9A-Za-z]{7,}[0-9][0-9A-Za-z]*)\\b|\\b[0-9a-fA-F]*[0-9][0-9a-fA-F]{7,}\\b',
        '<id>'),
        '[0-9]+([.,:][0-9]+)*', '<n>'),
    name))), '');
ALTER TABLE spans MATERIALIZE COLUMN error_fingerprint;
